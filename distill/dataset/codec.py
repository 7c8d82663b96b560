"""Compact derivatives: int8 or fp16 with one scale per 84-pixel image row.

A derivative varies by orders of magnitude between image rows, so one scale a row keeps int8 within
about 1 % of the whole (docs/dataset.md). Scales are fp16, relative to one fp32 gain a projection,
because derivatives per pixel underflow fp16 on their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CODECS: dict[str, np.dtype[Any]] = {"int8": np.dtype(np.int8), "fp16": np.dtype(np.float16)}
RELATIVE_ERROR = {"int8": 0.02, "fp16": 0.002}
"""Largest relative error (2-norm) a faithful round trip may show; `distill verify` holds data to it."""
PEAK = {"int8": 127.0, "fp16": 1.0}
Float = npt.NDArray[np.float32]
_PIECE = 32
"""States whose derivatives a CPU's cache holds while they are compressed."""


@dataclass
class Encoded:
    """Derivatives of n states, R rows each."""

    codes: npt.NDArray[np.generic]
    """int8 or float16 (n, R, 4, 84, 84)."""
    row_scale: npt.NDArray[np.float16]
    """float16 (n, R, 4, 84): largest magnitude of each image row, relative to the gain."""
    gain: Float
    """float32 (n, R): largest magnitude of each projection."""


def encode(jacobian: Float | Tensor, codec: str) -> Encoded:
    """Compress float32 (n, R, 4, 84, 84), on the device it lies on."""
    whole = torch.from_numpy(jacobian) if isinstance(jacobian, np.ndarray) else jacobian
    size = _PIECE if whole.device.type == "cpu" else max(len(whole), 1)
    pieces = [_encode(whole[start : start + size], codec) for start in range(0, max(len(whole), 1), size)]
    codes, row_scale, gain = (torch.cat([piece[place] for piece in pieces]).cpu().numpy() for place in range(3))
    return Encoded(codes, row_scale, gain)


def _encode(part: Tensor, codec: str) -> tuple[Tensor, Tensor, Tensor]:
    magnitude = part.abs().amax(-1)  # a quarter of the time of vector_norm(part, inf)
    gain = magnitude.amax((-1, -2))
    safe_gain = torch.where(gain > 0, gain, 1.0)[..., None, None]
    row_scale = (magnitude / safe_gain).to(torch.float16)
    # fp16 may round a row's peak down; the smallest subnormal keeps tiny rows from vanishing to 0/0.
    divisor = row_scale.float().clamp_min_(6e-8).mul_(safe_gain)
    unit = (part / divisor[..., None]).clamp_(-1.0, 1.0)
    codes = unit.mul_(127.0).round_().to(torch.int8) if codec == "int8" else unit.to(torch.float16)
    return codes, row_scale, gain


@overload
def scales(row_scale: npt.NDArray[np.float16], gain: Float, codec: str) -> Float: ...
@overload
def scales(row_scale: Tensor, gain: Tensor, codec: str) -> Tensor: ...
def scales(row_scale: Any, gain: Any, codec: str) -> Any:
    """What one code unit of each image row is worth, float32 (n, R, 4, 84); arrays of NumPy or PyTorch."""
    return row_scale * (gain / PEAK[codec])[..., None, None]  # fp16 times fp32 is fp32


def decode(encoded: Encoded, codec: str) -> Float:
    """The inverse of ``encode``, float32 (n, R, 4, 84, 84)."""
    scale = scales(encoded.row_scale, encoded.gain, codec)
    return encoded.codes.astype(np.float32) * scale[..., None]
