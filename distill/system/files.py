"""Writing files so that a crash at any moment leaves either the old file or the new one."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill.errors import UserError, first_line


def fsync_dir(folder: Path) -> None:
    """Make the names in ``folder`` durable (a rename lives in its folder, not in the file)."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def at_home(name: str | Path) -> Path:
    """The path that ``name`` means; ``~`` at its beginning is a home folder, ``s3://`` and the like their copy here.

    Raises:
        UserError: nobody here has that home, or the store cannot be used, or is of no known kind.
    """
    if ":/" in str(name):
        from distill.system.stores import is_store, refuse_unknown

        refuse_unknown(name)
        if is_store(name):
            from distill.system.mirror import mirrored

            return mirrored(name)
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UserError(f"{str(name)!r} begins with the home folder of nobody here; write the whole path") from error


def refuse_closed(path: Path, flag: str) -> None:
    """Refuse a file that could not be written in the end, where that is seen now.

    Raises:
        UserError: its folder, or the nearest above it that is there, may not be written to.
    """
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(above, os.W_OK):
        raise UserError(f"{flag}{path} would lie in {above}, which may not be written to; choose another place")


def place_here(name: str | Path) -> Path:
    """``at_home`` of what is to be written: in the copy of a store it would be lost in silence.

    Raises:
        UserError: it is the address of a store, or as ``at_home``.
    """
    from distill.system.stores import is_store

    if is_store(name):
        raise UserError(f"{name} is in a store; name a file or folder here, and send it there by `distill push`")
    return at_home(name)


def refuse_folder(name: str, example: str, flag: str = "") -> None:
    """Refuse a file to be written that is named like a folder: without its slash it would be a file of that name.

    Raises:
        UserError: it ends with a slash; ``example`` is a file that could be in it, ``flag`` what it was given by.
    """
    if name.endswith(("/", os.sep)):
        raise UserError(f"{flag}{name} is a folder; name a file in it, as {name}{example}")


TEMPORARY = re.compile(r"\..+?(?:\.(?P<machine>[0-9a-f]{8}))?\.(?P<pid>\d+)\.tmp")
ABANDONED_S = 24 * 3600.0
"""A temporary file of another machine, whose processes cannot be asked for, is left alone until it is so old."""


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it is fsynced and renamed onto ``path``.

    On any exception the temporary file is removed and ``path`` is left as it was. What killed processes left
    in the folder is removed, too.

    Args:
        path: the file to write.
        keep: where the file that is replaced goes. After a crash between the two renames, only this one is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    temporary = path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.tmp")
    try:
        yield temporary
        fd = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        fsync_dir(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # a write that fails does not say where
        raise


def replace_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a new folder, then give it the name ``path``: at any moment one of both is there and whole.

    After a crash between the two renames the new one is there under another name; ``settle_folder`` mends that.
    """
    new, old = _beside(path)
    settle_folder(path)
    write(new)
    fsync_dir(new)
    if path.exists():
        os.replace(path, old)
    os.replace(new, path)
    fsync_dir(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def settle_folder(path: Path, *, own: bool = False) -> None:
    """Finish what a killed ``replace_folder`` left.

    Args:
        path: the folder.
        own: it lies in a run's folder, where earlier versions took plainer names beside it, which are settled, too.
    """
    plainer = [(path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old"))] if own else []
    for new, old in (_beside(path), *plainer):
        if old.exists() and new.exists() and not path.exists():
            os.replace(new, path)
            fsync_dir(path.parent)
        if path.exists() or not old.exists():  # else the old one is all that there is
            for left in (new, old):
                shutil.rmtree(left, ignore_errors=True)


def _beside(path: Path) -> tuple[Path, Path]:
    """Names of the new and the old folder, which nobody else gives to one of theirs."""
    return path.with_name(f".{path.name}.new.distill"), path.with_name(f".{path.name}.old.distill")


def unreadable(path: Path) -> Path | None:
    """The folder above ``path`` that may not be entered, or ``path`` where it is there and may not be read."""
    effective = os.access in os.supports_effective_ids
    for folder in reversed(path.absolute().parents):
        if folder.exists() and not os.access(folder, os.X_OK, effective_ids=effective):
            return folder
    mode = os.R_OK | os.X_OK if path.is_dir() else os.R_OK
    return path if path.exists() and not os.access(path, mode, effective_ids=effective) else None


def check_folders(folder: Path) -> None:
    """Look into every folder below ``folder``: what may not be read, ``glob`` passes over in silence.

    Raises:
        PermissionError: naming the first that may not be listed or entered.
    """

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise error

    for name, _, _ in os.walk(folder, onerror=refuse):
        if unreadable(Path(name)) is not None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)


def is_vacant(folder: Path) -> bool:
    """True for a folder without files, or with nothing but temporary ones and locks that a killed process left."""
    return all(path.suffix == ".lock" or TEMPORARY.fullmatch(path.name) for path in folder.iterdir())


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Remove temporary files of processes that are no more.

    Args:
        folder: where to look.
        below: in all folders below, too.
    """
    for where, _, names in os.walk(folder):
        for name in names:
            match = TEMPORARY.fullmatch(name) if name.endswith(".tmp") else None
            with contextlib.suppress(OSError):  # another process removed it, or it is not ours to remove
                if match and _is_abandoned(Path(where, name), match["machine"], int(match["pid"])):
                    os.unlink(Path(where, name))
        if not below:
            break


def _is_abandoned(path: Path, machine: str | None, pid: int) -> bool:
    """Whether no process can still be writing a temporary file."""
    if machine == _machine():
        return not _is_alive(pid)
    return time.time() - path.stat().st_mtime > ABANDONED_S


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's
        return True
    return True


@functools.cache
def _machine() -> str:
    """Eight hex digits for what a process id means something in: this machine since it was started, this container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def in_memory(save: Callable[[io.BytesIO], object]) -> bytes:
    """What ``save`` writes into a file. PyTorch's own writer hides the reason of an error, such as a full disk."""
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def write_bytes(path: Path, data: bytes, keep: Path | None = None) -> None:
    """Replace ``path`` by ``data``, atomically and durably; see ``replacing``."""
    with replacing(path, keep) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON, atomically and durably."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, what: str, *fields: str) -> Any:
    """Read JSON from ``path``; a file that cannot be read, or lacks ``fields``, is reported as a damaged ``what``."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a mark before it
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a readable {what} ({first_line(error)}); restore it from a copy") from error
    missing = [field for field in fields if not isinstance(value, dict) or field not in value]
    if missing:
        raise UserError(f"{path} is not a complete {what}: it has no {missing[0]!r}; restore it from a copy")
    return value


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
