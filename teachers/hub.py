"""Agents from the Hugging Face hub: cached, checksummed, and usable without a network once cached.

A name is ``hf://org/repo``, ``hf://org/repo@revision`` or ``hf://org/repo/file.zip``; in place of a zip, a file of a
format that may stand for its folder (CleanRL's). The hub's own
cache is used (``HF_HOME``), and ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they
mean to every other program that uses the hub.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from distill.errors import UserError, nearest
from distill.system.files import sha256
from teachers.card import checked_card
from teachers.formats.format import formats
from teachers.papers import SETTINGS

NAME = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/@]+))?(?:/(?P<file>.+?))?/?")
NOT_AGENTS = ("train_eval_metrics.zip",)  # rl-zoo puts its learning curves beside every agent
TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class _UnreachableError(Exception):
    """The hub did not answer; its cache may."""


@dataclass(frozen=True)
class _Name:
    """A parsed ``hf://`` name."""

    text: str
    repo: str
    revision: str | None
    file: str | None


def fetch(name: str) -> Path:
    """Download an agent's zip and its card, or find them in the hub's cache.

    Args:
        name: ``hf://org/repo``, with ``@revision`` or ``/file.zip`` where wanted. Without a file, the
            zip named like the repository is taken (rl-zoo's custom), else the only one there is, else the only file
            of another format.

    Returns:
        Path of the file inside the hub's cache, its checksum verified.

    Raises:
        UserError: no huggingface_hub, no such repository, revision or file, no agent or several,
            no network and nothing cached, or a file that does not match its checksum.
    """
    match = NAME.fullmatch(name)
    if match is None or not (match["file"] or ".zip").endswith(_endings()):
        raise UserError(f"cannot read {name!r}; write hf://org/repo, hf://org/repo@revision or hf://org/repo/file.zip")
    try:
        import huggingface_hub  # noqa: F401  # optional: asked for here, used below
    except ImportError as error:
        raise UserError('hf:// names need huggingface_hub; run pip install -e ".[hub]"') from error
    wanted = _Name(name.rstrip("/"), match["repo"], match["revision"], match["file"])
    try:
        files = _list_files(wanted)
    except _UnreachableError as error:
        path = _from_cache(wanted, str(error))
        log.warning("cannot reach the hub (%s); using the cached copy of %s", error, name)
    else:
        path = _download(wanted, files)
    checked_card(path, card_beside(path))
    return path


def card_beside(path: Path) -> Path:
    """The card of a fetched zip: its namesake ``.md`` where the repository has one, else ``README.md``."""
    namesake = path.with_suffix(".md")
    return namesake if namesake.is_file() else path.with_name("README.md")


def _list_files(name: _Name) -> dict[str, str | None]:
    """Files of the repository, with the SHA-256 of those kept in LFS."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = HfApi().model_info(name.repo, revision=name.revision, timeout=TIMEOUT_S, files_metadata=True)
    except GatedRepoError as error:
        raise UserError(
            f"{name.repo} is gated; accept its terms on the hub, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the hub has no model repository {name.repo}, or it is private; check the name or run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{name.repo} has no revision {name.revision!r}; give a branch, tag or commit of it") from error
    except HFValidationError as error:
        raise UserError(f"{name.repo!r} cannot be a repository on the hub ({_reason(error)})") from error
    except Exception as error:  # the transport and its errors differ between versions of huggingface_hub
        raise _UnreachableError(_reason(error)) from error
    return {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or []}


def _download(name: _Name, files: dict[str, str | None]) -> Path:
    chosen = _choose(name, files)
    path = _download_file(name, chosen)
    expected = files[chosen] or _sha256_in_cache(path)
    if expected is not None and sha256(path) != expected:
        # Left by an earlier accident or a bad proxy; one fresh copy is worth a try.
        path = _download_file(name, chosen, force=True)
        _check_sha256(path, expected, "download it again, or through another network")
    for card in (str(PurePosixPath(chosen).with_suffix(".md")), str(PurePosixPath(chosen).with_name("README.md"))):
        if card in files:
            _download_file(name, card)
            break
    for settings in (str(PurePosixPath(chosen).with_name(file)) for file in SETTINGS):
        if settings in files:
            _download_file(name, settings)
    return path


def _download_file(name: _Name, file: str, *, force: bool = False) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name.repo, file, revision=name.revision, force_download=force))
    except Exception as error:  # as above
        raise UserError(f"could not download {file} of {name.repo} ({_reason(error)}); try again") from error


def _from_cache(name: _Name, reason: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    cached: list[str] = []
    with contextlib.suppress(LocalEntryNotFoundError):
        # An empty pattern asks only where the snapshot lies; whole repositories are seldom cached.
        folder = Path(snapshot_download(name.repo, revision=name.revision, allow_patterns=[], local_files_only=True))
        found = (file for file in folder.rglob("*") if file.name.endswith(_endings()))
        cached = [file.relative_to(folder).as_posix() for file in found if file.is_file()]
    if not cached or (name.file and name.file not in cached):
        raise UserError(
            f"cannot reach the hub ({reason}), and {name.text} is not in its cache ({constants.HF_HUB_CACHE}); "
            "connect once to fetch it, or give the path of a zip"
        )
    path = folder / _choose(name, cached)
    expected = _sha256_in_cache(path)
    if expected is not None:
        _check_sha256(path, expected, "connect to the hub to fetch it again")
    return path


def _choose(name: _Name, files: Iterable[str]) -> str:
    agents = sorted(f for f in files if f.endswith(_endings()) and PurePosixPath(f).name not in NOT_AGENTS)
    if name.file is not None:
        if name.file not in agents:
            there = f"it has {', '.join(agents)}" if agents else "it has no zip at all"
            raise UserError(f"{name.repo} has no {name.file}{nearest(name.file, agents)}; {there}")
        return name.file
    zips = [file for file in agents if file.endswith(".zip")] or agents
    namesake = f"{PurePosixPath(name.repo).name}.zip"
    if namesake in zips:
        return namesake
    if not zips:
        others = " or ".join(_endings()[1:])
        raise UserError(f"{name.repo} has no zip of an agent; only stable-baselines3 zips and {others} can teach")
    if len(zips) > 1:
        kind = "zips" if zips[0].endswith(".zip") else "agents"
        raise UserError(f"{name.repo} has several {kind}; choose one: " + ", ".join(f"{name.text}/{z}" for z in zips))
    return zips[0]


def _endings() -> tuple[str, ...]:
    """How files of agents end here."""
    return (".zip", *(form.suffix for form in formats() if form.is_what_a_folder_means))


def _sha256_in_cache(path: Path) -> str | None:
    """The hub's cache names a file kept in LFS by its SHA-256 and links to it (where links exist)."""
    blob = Path(os.readlink(path)).name if path.is_symlink() else ""
    return blob if re.fullmatch("[0-9a-f]{64}", blob) else None


def _check_sha256(path: Path, expected: str, remedy: str) -> None:
    found = sha256(path)
    if found != expected:
        raise UserError(f"{path} is corrupted (sha256 {found[:12]}..., the hub says {expected[:12]}...); {remedy}")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")[:160]
