"""Files of ``torch.save``, read without running anything of them or filling the memory."""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import UserError

MAX_BYTES = 2**28
"""Weights that would take more memory are refused: NatureCNN has 7 MB."""
MAX_PARTS = 500_000
"""Values in a file's description of itself; one with more is refused."""
MAX_LIST = 2**21
COMPILED = "_orig_mod."
State = dict[str, Tensor]


def more_than(size: int, limit: int) -> str:
    """``size`` in words, which is more than ``limit``."""
    return f"more than {'1 GiB' if size > 2**30 else f'{limit >> 20} MiB'}"


def read_weights(path: Path, content: bytes, what: str) -> State:
    """Named tensors, float32 on the CPU.

    Args:
        path: where ``content`` is from, for messages.
        content: what ``torch.save`` wrote.
        what: what ``content`` is called, likewise.

    Raises:
        UserError: damaged, hostile or too large content, or one that is not ordinary arrays of finite numbers by name.
    """
    return checked(path, read_plain(path, content, what), what)


def read_plain(path: Path, content: bytes, what: str) -> Any:
    """What ``torch.save`` wrote, if it is tensors and plain values; nothing of it is run.

    Raises:
        UserError: damaged, hostile or too large content.
    """
    try:
        if content.startswith(b"PK"):  # torch.save's own zip, which torch unpacks however small it was squeezed
            with zipfile.ZipFile(io.BytesIO(content)) as records:
                size = sum(record.file_size for record in records.infolist())
                if size > MAX_BYTES:
                    raise UserError(f"{path}: its weights would unpack to {more_than(size, MAX_BYTES)}; refusing them")
                _check_pickle(path, records)
        else:
            _check_old_format(path, content)
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols, which the error below tells better
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds for a hostile or damaged pickle
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise UserError(
            f"{path}: {what} is damaged or holds more than plain weights, so it was not loaded ({reason})"
        ) from error


def _check_pickle(path: Path, records: zipfile.ZipFile) -> None:
    """The list of tensors is a pickle of kilobytes; a large one is gigabytes of small objects."""
    for record in records.infolist():
        if record.filename.endswith(".pkl") and record.file_size > MAX_LIST:
            raise UserError(f"{path}: the list of its weights has {record.file_size >> 20} MiB; refusing it")


def _check_old_format(path: Path, content: bytes) -> None:
    """The same for the format before PyTorch 1.6: five pickles, then the numbers."""
    stream, steps = io.BytesIO(content), 0
    for _ in range(5):
        for _ in pickletools.genops(stream):
            steps += 1
            if steps > MAX_PARTS:
                raise UserError(f"{path}: the list of its weights has more than {MAX_PARTS:,} parts; refusing it")


def checked(path: Path, weights: Any, what: str) -> State:
    """Ordinary float32 arrays of finite numbers, by the names that they have without torch.compile."""
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path}: {what} is not a dictionary of named tensors")
    arrays: State = {}
    size = 0
    for raw, value in weights.items():
        name = raw.replace(COMPILED, "")
        if name in arrays:
            raise UserError(f"{path}: {what} has two parameters called {name}; the file is damaged")
        if not (isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"):
            raise UserError(f"{path}: {name} in {what} is not an ordinary tensor")
        if value.is_nested or not value.is_floating_point() or value.dim() == 0 or value.numel() == 0:
            raise UserError(f"{path}: {name} in {what} is not an array of floats, as weights are")
        size += 4 * value.numel()  # a view with stride 0 can be far larger than its file
        if size > MAX_BYTES:
            raise UserError(f"{path}: its weights would take {more_than(size, MAX_BYTES)}; refusing them")
        arrays[name] = value.detach().to(torch.float32).contiguous()
        if not torch.isfinite(arrays[name]).all():
            raise UserError(f"{path}: its weights hold NaN or Inf ({name}); this teacher cannot be used")
    return arrays
