"""The bytes of an SB3 agent: a zip, a zip of a folder, or an unpacked folder; read without running anything."""

from __future__ import annotations

import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import UserError
from teachers.formats import torch_file
from teachers.formats.torch_file import MAX_PARTS, State, more_than

MAX_DATA = 2**26
"""``data`` with more bytes, or more than ``MAX_PARTS`` values in it, is not parsed: SB3 writes kilobytes, and some
1,000 values."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """What is read of an agent."""

    path: Path
    """The zip or folder."""
    weights: State
    """float32 tensors of ``policy.pth`` by name, on the CPU; torch.compile's prefixes are gone."""
    fields: dict[str, Any]
    """Plain part of ``data``; pickled values stay base64 text that nobody decodes. Empty where there is none."""


def read_archive(path: Path) -> Archive:
    """Read the weights and the plain fields of an agent.

    Raises:
        UserError: missing, truncated, foreign or hostile file, or one that would take too much memory.
    """
    policy, data = _from_folder(path) if path.is_dir() else _from_zip(path)
    weights, fields = torch_file.read_weights(path, policy, "policy.pth"), _plain_fields(data)
    if not fields:
        log.warning(
            "%s: its data is missing, damaged or far larger than stable-baselines3 writes; only the weights are read, "
            "so nothing tells whether it expects another network or other observations",
            path,
        )
    return Archive(path, weights, fields)


def is_unpacked(folder: Path) -> bool:
    """True for a folder with the content of an SB3 zip."""
    return (folder / "policy.pth").is_file()


def read_fields(path: Path) -> dict[str, Any]:
    """The plain fields of an agent, without its weights; empty where the file cannot be read."""
    try:
        return _plain_fields((_from_folder(path) if path.is_dir() else _from_zip(path))[1])
    except UserError:  # whoever loads the agent says what is wrong with it
        return {}


def _from_folder(path: Path) -> tuple[bytes, bytes]:
    if not is_unpacked(path):
        raise UserError(f"no teacher at {path}; give a path to a stable-baselines3 zip or a bundled name")
    try:
        sizes = {name: (path / name).stat().st_size for name in ("policy.pth", "data") if (path / name).is_file()}
        _check_sizes(path, sizes)
        return (path / "policy.pth").read_bytes(), (path / "data").read_bytes() if "data" in sizes else b""
    except OSError as error:
        raise UserError(f"{path} is not readable ({error}); copy it again") from error


def _check_sizes(path: Path, sizes: dict[str, int]) -> None:
    for name, limit in (("policy.pth", torch_file.MAX_BYTES), ("data", MAX_DATA)):
        if sizes.get(name, 0) > limit:
            raise UserError(f"{path}: {name} would unpack to {more_than(sizes[name], limit)}; refusing it")


def _from_zip(path: Path) -> tuple[bytes, bytes]:
    if not path.is_file():
        raise UserError(f"no teacher at {path}; give a path to a stable-baselines3 zip or a bundled name")
    try:
        with zipfile.ZipFile(path) as archive:
            prefix = _prefix(path, archive)
            if f"{prefix}policy.pth" not in archive.namelist():
                # A file cut short often passes for the last of the zips that SB3 nests inside it.
                raise UserError(f"{path} has no policy.pth: it is not from stable-baselines3, or cut short in copying")
            there = [name for name in ("policy.pth", "data") if prefix + name in archive.namelist()]
            # zipfile never unpacks more than the directory promises, so the promise is enough.
            _check_sizes(path, {name: archive.getinfo(prefix + name).file_size for name in there})
            return archive.read(f"{prefix}policy.pth"), archive.read(f"{prefix}data") if "data" in there else b""
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds for damaged, encrypted or unreadable files
        raise UserError(f"{path} is not a readable zip file ({error}); download or copy it again") from error


def _prefix(path: Path, archive: zipfile.ZipFile) -> str:
    """``x/`` for a zip of the folder ``x``, else nothing."""
    names = archive.namelist()
    if "policy.pth" in names:
        return ""
    inner = [name.removesuffix("policy.pth") for name in names if name.endswith("/policy.pth")]
    inner = [prefix for prefix in inner if not prefix.startswith("__MACOSX/")]
    if len(inner) > 1:
        raise UserError(f"{path} holds several agents ({', '.join(inner[:3])}); unpack it and give one of its folders")
    return inner[0] if inner else ""


def _plain_fields(data: bytes) -> dict[str, Any]:
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_PARTS:
        return {}  # a few kilobytes, squeezed, can become gigabytes of small objects
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
