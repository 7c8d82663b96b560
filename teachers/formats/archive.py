"""The bytes of an SB3 agent: a zip, a zip of a folder, or an unpacked folder; read without running anything."""

from __future__ import annotations

import io
import json
import logging
import pickletools
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import UserError

MAX_BYTES = 2**28
"""Weights that would take more memory are refused: NatureCNN has 7 MB."""
MAX_DATA, MAX_PARTS = 2**26, 500_000
"""``data`` with more bytes, or more values in it, is not parsed: SB3 writes kilobytes, and some 1,000 values."""
MAX_LIST = 2**21
COMPILED = "_orig_mod."
State = dict[str, Tensor]

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
    weights, fields = _read_weights(path, policy), _plain_fields(data)
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
    for name, limit in (("policy.pth", MAX_BYTES), ("data", MAX_DATA)):
        if sizes.get(name, 0) > limit:
            raise UserError(f"{path}: {name} would unpack to {_more(sizes[name], limit)}; refusing it")


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


def _more(size: int, limit: int) -> str:
    return f"more than {'1 GiB' if size > 2**30 else f'{limit >> 20} MiB'}"


def _plain_fields(data: bytes) -> dict[str, Any]:
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_PARTS:
        return {}  # a few kilobytes, squeezed, can become gigabytes of small objects
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _read_weights(path: Path, policy: bytes) -> State:
    try:
        if policy.startswith(b"PK"):  # torch.save's own zip, which torch unpacks however small it was squeezed
            with zipfile.ZipFile(io.BytesIO(policy)) as records:
                size = sum(record.file_size for record in records.infolist())
                if size > MAX_BYTES:
                    raise UserError(f"{path}: its weights would unpack to {_more(size, MAX_BYTES)}; refusing them")
                _check_pickle(path, records)
        else:
            _check_old_format(path, policy)
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols, which the error below tells better
            weights = torch.load(io.BytesIO(policy), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds for a hostile or damaged pickle
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise UserError(
            f"{path}: policy.pth is damaged or holds more than plain weights, so it was not loaded ({reason})"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path}: policy.pth is not a dictionary of named tensors")
    return _checked(path, weights)


def _check_pickle(path: Path, records: zipfile.ZipFile) -> None:
    """The list of tensors is a pickle of kilobytes; a large one is gigabytes of small objects."""
    for record in records.infolist():
        if record.filename.endswith(".pkl") and record.file_size > MAX_LIST:
            raise UserError(f"{path}: the list of its weights has {record.file_size >> 20} MiB; refusing it")


def _check_old_format(path: Path, policy: bytes) -> None:
    """The same for the format before PyTorch 1.6: five pickles, then the numbers."""
    stream, steps = io.BytesIO(policy), 0
    for _ in range(5):
        for _ in pickletools.genops(stream):
            steps += 1
            if steps > MAX_PARTS:
                raise UserError(f"{path}: the list of its weights has more than {MAX_PARTS:,} parts; refusing it")


def _checked(path: Path, weights: dict[str, Any]) -> State:
    """Ordinary float32 arrays of finite numbers, by the names that they have without torch.compile."""
    arrays: State = {}
    size = 0
    for raw, value in weights.items():
        name = raw.replace(COMPILED, "")
        if name in arrays:
            raise UserError(f"{path}: policy.pth has two parameters called {name}; the file is damaged")
        if not (isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"):
            raise UserError(f"{path}: {name} in policy.pth is not an ordinary tensor")
        if value.is_nested or not value.is_floating_point() or value.dim() == 0 or value.numel() == 0:
            raise UserError(f"{path}: {name} in policy.pth is not an array of floats, as weights are")
        size += 4 * value.numel()  # a view with stride 0 can be far larger than its file
        if size > MAX_BYTES:
            raise UserError(f"{path}: its weights would take {_more(size, MAX_BYTES)}; refusing them")
        arrays[name] = value.detach().to(torch.float32).contiguous()
        if not torch.isfinite(arrays[name]).all():
            raise UserError(f"{path}: its weights hold NaN or Inf ({name}); this teacher cannot be used")
    return arrays
