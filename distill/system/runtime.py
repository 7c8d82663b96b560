"""Process-wide settings that PyTorch on a CPU needs to be fast and well-behaved."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

from distill.errors import UserError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def tune_process() -> None:
    """Call before PyTorch is imported; safe to call twice.

    * Threads that wait should sleep soon: spinning ones starve ALE's emulator threads and any other
      program (measured: a training step slowed 7-fold beside one busy process, docs/decisions.md).
      But not at once: the next operation mostly comes within 0.1 ms, and to wake a thread each time
      makes a step of small layers a fifth longer (docs/performance.md). libgomp takes the count;
      other OpenMP libraries know only the policy.
    * glibc returns every large block to the kernel at once, so each step pays page faults for the
      same buffers again (measured: a Sobolev step takes 1.3 times as long).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1500")
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except AttributeError:  # musl has none
            return
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 2**28)


def processes() -> int:
    """How many processes ``torchrun`` started to train one student together (WORLD_SIZE); 1 where nobody did.

    Raises:
        UserError: the variable says nothing of the kind.
    """
    text = os.environ.get("WORLD_SIZE") or "1"
    if not text.isdecimal() or int(text) < 1:
        raise UserError(
            f"WORLD_SIZE={text} in the environment is no number of processes; unset it, or start by torchrun"
        )
    return int(text)


@contextlib.contextmanager
def torch_threads(share: float) -> Iterator[None]:
    """PyTorch uses this share of its threads meanwhile: several of us compute side by side."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, round(share * threads)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
