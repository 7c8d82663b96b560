"""Arrays that do not fit in memory: an uncompressed, mapped copy of the frames, and reading ahead of their use."""

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

Frames = npt.NDArray[np.uint8]


def mapped_frames(
    folder: Path, contents: Sequence[str], shape: tuple[int, int, int], fill: Callable[[Frames], None]
) -> Frames:
    """All frames of a dataset as a memory map of ``<folder>/cache/frames-<contents>.npy``, made where it is missing.

    Args:
        folder: dataset folder.
        contents: checksums of its shards, in order; a copy of any others is replaced.
        shape: (P, 84, 84).
        fill: decompresses the frames into an array.
    """
    name = hashlib.sha256("\n".join(contents).encode()).hexdigest()[:12]
    path = folder / "cache" / f"frames-{name}.npy"
    if not _is_whole(path, shape):
        with replacing(path) as temporary:
            frames = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            fill(frames)
            frames.flush()
        for old in path.parent.glob("frames-*.npy"):
            if old != path:
                old.unlink()
    # Copy-on-write, because torch wants writable memory; nothing is written.
    frames = np.load(path, mmap_mode="c")
    return np.asarray(frames)


def _is_whole(path: Path, shape: tuple[int, int, int]) -> bool:
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
