"""What is said of an error that is no bug."""

from __future__ import annotations

import errno

import pytest

from distill.system.trouble import sentence


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "not enough memory; lower what was asked for"),
        (MemoryError("Unable to allocate 5.13 TiB"), "not enough memory (Unable to allocate 5.13 TiB); lower"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: x"), "not enough memory (DefaultCPUAllocator"),
        (OSError(12, "Cannot allocate memory"), "not enough memory ("),
    ],
)
def test_no_memory(error: Exception, says: str) -> None:
    told = sentence(error)
    assert told is not None
    assert told.startswith(says)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.ELOOP, "", "a/b"),
            "cannot open a/b: too many levels of symbolic links; it is a link",
        ),
        (
            OSError(errno.EROFS, "", "data/pong/cache"),
            "cannot write data/pong/cache: read-only file system; a dataset's",
        ),
        (OSError(errno.EROFS, "", "runs/x"), "cannot write runs/x: read-only file system; choose another folder"),
    ],
)
def test_the_disk(error: Exception, says: str) -> None:
    told = sentence(error)
    assert told is not None
    assert told.startswith(says)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), ValueError("x"), OSError(22, "Invalid argument")])
def test_a_bug_has_no_sentence(error: Exception) -> None:
    assert sentence(error) is None
