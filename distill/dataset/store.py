"""Arrays that do not fit in memory: uncompressed, mapped copies of them, and reading ahead of their use."""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import io
import math
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from distill.errors import UserError
from distill.system.files import replacing
from distill.system.progress import console

Array = npt.NDArray[Any]
DIGEST, PIECE = 32, 2**20
"""Bytes of a SHA-256, and bytes that are hashed or written at once."""


class Wanted(NamedTuple):
    """An array of a whole dataset."""

    name: str
    shape: tuple[int, ...]
    dtype: type[np.generic]


def mapped_copy(
    folder: Path, contents: Sequence[str], wanted: Wanted, fill: Callable[[Array], None], *, verify: bool = False
) -> Array:
    """One array of a whole dataset as a memory map of ``<folder>/cache/<name>-<contents>.npy``, made where missing.

    Behind the array the file has its SHA-256: one file, so that both are there after a crash, or neither.

    Args:
        folder: dataset folder.
        contents: checksums of the dataset's shards, in order; a copy made from any others is replaced.
        wanted: the array.
        fill: writes the array's contents.
        verify: compare a copy that is there with its checksum.

    Raises:
        UserError: they differ; the copy is removed.
        OSError: there is no room for the copy.
    """
    name, shape, dtype = wanted.name, wanted.shape, np.dtype(wanted.dtype)
    path = copy_of(folder, name, contents)
    header = _header(shape, dtype)
    if not _is_whole(path, header, shape, dtype):
        if path.exists():
            console.print(f"{path} is cut short, or from an older version: it is made again")
        with replacing(path) as temporary:
            _write(temporary, header, dtype, shape, fill)
        for old in path.parent.glob(f"{name}-*.npy"):
            if old != path:
                old.unlink()
    elif verify and not is_sound(path):
        path.unlink(missing_ok=True)
        raise UserError(
            f"{path} did not match its checksum: the disk has damaged it; it was only a copy and is removed, so the "
            "same command makes it again; first run `distill verify` on the dataset"
        )
    # Copy-on-write, because torch wants writable memory; nothing is written.
    return np.asarray(np.memmap(path, dtype, "c", len(header), shape))


def copy_of(folder: Path, name: str, contents: Sequence[str]) -> Path:
    """The file of such a copy, whether it is there or not."""
    checksum = hashlib.sha256("\n".join(contents).encode()).hexdigest()[:12]
    return folder / "cache" / f"{name}-{checksum}.npy"


def check_copies(folder: Path) -> int:
    """Compare the copies in a dataset's folder with their checksums; returns how many there are.

    Raises:
        UserError: naming one that differs.
    """
    copies = sorted((folder / "cache").glob("*.npy"))
    for path in copies:
        if not is_sound(path):
            raise UserError(f"{path} does not match its checksum; delete it: it is a copy, made again where needed")
    return len(copies)


def _write(
    path: Path, header: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], fill: Callable[[Array], None]
) -> None:
    size = len(header) + dtype.itemsize * math.prod(shape)
    with path.open("w+b") as file:
        _allocate(file.fileno(), size + DIGEST)  # a mapped page without room on the disk would kill the process
        file.write(header)
        file.flush()
        array = np.memmap(file, dtype, "r+", len(header), shape)
        fill(array)
        array.flush()
        digest = _digest(file, size)
        file.seek(size)
        file.write(digest)


def _allocate(fd: int, size: int) -> None:
    """Give a new file its room on the disk.

    Raises:
        OSError: there is not that much.
    """
    try:
        return os.posix_fallocate(fd, 0, size)
    except AttributeError:  # not on this system
        pass
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    for start in range(0, size, PIECE):
        os.pwrite(fd, bytes(min(PIECE, size - start)), start)


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def _is_whole(path: Path, header: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """True for a file of this header and of the right length."""
    if not path.is_file() or path.stat().st_size != len(header) + dtype.itemsize * math.prod(shape) + DIGEST:
        return False
    with path.open("rb") as file:
        return file.read(len(header)) == header


def is_sound(path: Path) -> bool:
    """True where a copy matches the checksum behind it."""
    with path.open("rb") as file:
        digest = _digest(file, max(path.stat().st_size - DIGEST, 0))
        return file.read() == digest


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of a file's first ``size`` bytes; it then stands behind them."""
    file.seek(0)
    digest = hashlib.sha256()
    for start in range(0, size, PIECE):
        digest.update(file.read(min(PIECE, size - start)))
    return digest.digest()


def memory_size() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def will_need(array: npt.NDArray[Any], start: int, size: int) -> None:
    """Tell the kernel that bytes ``start`` .. ``start + size`` of a mapped array are wanted next."""
    _advise(array, start, size, "MADV_WILLNEED")


def release(array: npt.NDArray[Any]) -> None:
    """Let go of the memory of a mapped array that nothing was written to; what is asked for is read again."""
    _advise(array, 0, array.nbytes, "MADV_DONTNEED")


def _advise(array: npt.NDArray[Any], start: int, size: int, advice: str) -> None:
    if not hasattr(mmap, advice):  # Windows
        return
    address = array.ctypes.data + start
    first = address - address % mmap.PAGESIZE
    _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(address + size - first), getattr(mmap, advice))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
