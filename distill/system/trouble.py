"""What an error says to whoever typed the command."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from distill.errors import UserError, first_line
from distill.system.files import unreadable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk without room says."""
CACHE = "cache"
"""Folder in a dataset."""
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "not enough memory", "CUDA out of memory")
"""What PyTorch says where NumPy and Python raise a MemoryError."""


def complain(error: Exception) -> int:
    """Print the sentence of the error that is being handled and return the exit status; raise it where it has none."""
    message = sentence(error)
    if message is None:
        raise error
    print(f"error: {message}", file=sys.stderr)
    return 1


def sentence(error: Exception) -> str | None:
    """One sentence for what is wrong, with settings, memory or the disk; None for an error that is a bug of ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        why = f" ({first_line(error)[:200]})" if str(error) else ""
        return f"not enough memory{why}; lower what was asked for: games side by side, states, batches or networks"
    return None if not isinstance(error, OSError) else _of_disk(error)


@contextlib.contextmanager
def blaming(what: str, advice: str) -> Iterator[None]:
    """An error in a part that somebody else wrote becomes one sentence: what fails, how, and what to do.

    What has a sentence already, such as want of memory or a full disk, is no fault of the part and goes through.

    Raises:
        UserError: ``<what> (<kind>: <first line of the error>); <advice>``.
    """
    try:
        yield
    except Exception as error:
        if sentence(error) is not None:
            raise
        raise UserError(f"{what} ({type(error).__name__}: {first_line(error)}); {advice}") from error


def _of_disk(error: OSError) -> str | None:
    name = error.filename2 or error.filename  # a file that could not be renamed has a temporary name
    where = f" {name}" if name else ""
    reason = os.strerror(error.errno or 0).lower()
    if error.errno in FULL:
        return f"cannot write{where}: {reason}; what was committed is safe, so make room and run the command again"
    if error.errno in (errno.EACCES, errno.EPERM) and isinstance(error.filename, str):
        closed = unreadable(Path(error.filename))
        if closed is not None:
            return f"cannot read {closed}: {reason}; have its owner allow it (chmod), or use a copy of your own"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and name and CACHE in Path(str(name)).parts[-3:]:
        return (
            f"cannot write{where}: {reason}; a dataset's uncompressed copies lie in it, so have its owner allow that, "
            "use a copy of your own, or --train.hold_data=memory"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"cannot write{where}: {reason}; choose another folder"
    if error.errno == errno.ELOOP:
        return f"cannot open{where}: {reason}; it is a link that leads to itself, so name another place"
    if error.errno == errno.ENAMETOOLONG:
        return f"cannot open{where}: {reason}; choose a shorter name"
    if error.errno == errno.EIO:
        return f"cannot read or write{where}: {reason}; the disk fails, so save what is on it elsewhere"
    return None
