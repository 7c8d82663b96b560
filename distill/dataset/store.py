"""Arrays that do not fit in memory: uncompressed, mapped copies of them, and reading ahead of their use."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.files import replacing

Array = npt.NDArray[Any]


def mapped_copy(
    folder: Path,
    name: str,
    contents: Sequence[str],
    shape: tuple[int, ...],
    dtype: type[np.generic],
    fill: Callable[[Array], None],
) -> Array:
    """One array of a whole dataset as a memory map of ``<folder>/cache/<name>-<contents>.npy``, made where missing.

    Args:
        folder: dataset folder.
        name: of the array.
        contents: checksums of the dataset's shards, in order; a copy made from any others is replaced.
        shape: of the array.
        dtype: of the array.
        fill: writes the array's contents.
    """
    checksum = hashlib.sha256("\n".join(contents).encode()).hexdigest()[:12]
    path = folder / "cache" / f"{name}-{checksum}.npy"
    if not _is_whole(path, shape):
        with replacing(path) as temporary:
            array = np.lib.format.open_memmap(temporary, "w+", dtype, shape)
            fill(array)
            array.flush()
        for old in path.parent.glob(f"{name}-*.npy"):
            if old != path:
                old.unlink()
    # Copy-on-write, because torch wants writable memory; nothing is written.
    return np.asarray(np.load(path, mmap_mode="c"))


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (OSError, ValueError):
        return False


def memory_size() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def will_need(array: npt.NDArray[Any], start: int, size: int) -> None:
    """Tell the kernel that bytes ``start`` .. ``start + size`` of a mapped array are wanted next."""
    if not hasattr(mmap, "MADV_WILLNEED"):  # Windows
        return
    address = array.ctypes.data + start
    first = address - address % mmap.PAGESIZE
    _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(address + size - first), mmap.MADV_WILLNEED)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
