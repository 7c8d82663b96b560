"""Compact derivatives: int8 or fp16 with one scale per 84-pixel image row.

A derivative varies by orders of magnitude between image rows, so one scale a row keeps int8 within
about 1 % of the whole (docs/dataset.md). Scales are fp16, relative to one fp32 gain a projection,
because derivatives per pixel underflow fp16 on their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CODECS = {"int8": np.dtype(np.int8), "fp16": np.dtype(np.float16)}
RELATIVE_ERROR = {"int8": 0.02, "fp16": 0.002}
"""Largest relative error (2-norm) a faithful round trip may show; `distill verify` holds data to it."""
PEAK = {"int8": 127.0, "fp16": 1.0}
Float = npt.NDArray[np.float32]


@dataclass
class Encoded:
    """Derivatives of n states, R rows each."""

    codes: npt.NDArray[np.generic]
    """int8 or float16 (n, R, 4, 84, 84)."""
    row_scale: npt.NDArray[np.float16]
    """float16 (n, R, 4, 84): largest magnitude of each image row, relative to the gain."""
    gain: Float
    """float32 (n, R): largest magnitude of each projection."""


def encode(jacobian: Float, codec: str) -> Encoded:
    """Compress float32 (n, R, 4, 84, 84)."""
    magnitude = np.abs(jacobian).max(-1)
    gain = magnitude.max((-1, -2))
    safe_gain = np.where(gain > 0, gain, 1.0).astype(np.float32)
    row_scale = (magnitude / safe_gain[..., None, None]).astype(np.float16)
    # fp16 may round a row's peak down; the smallest subnormal keeps tiny rows from vanishing to 0/0.
    divisor = np.maximum(row_scale.astype(np.float32), 6e-8) * safe_gain[..., None, None]
    unit = np.clip(jacobian / divisor[..., None], -1.0, 1.0)
    codes = np.rint(unit * 127.0).astype(np.int8) if codec == "int8" else unit.astype(np.float16)
    return Encoded(codes, row_scale, gain.astype(np.float32))


def scales(row_scale: npt.NDArray[np.float16], gain: Float, codec: str) -> Float:
    """What one code unit of each image row is worth, float32 (n, R, 4, 84)."""
    return row_scale.astype(np.float32) * (gain / PEAK[codec])[..., None, None]


def decode(encoded: Encoded, codec: str) -> Float:
    """The inverse of ``encode``, float32 (n, R, 4, 84, 84)."""
    scale = scales(encoded.row_scale, encoded.gain, codec)
    return encoded.codes.astype(np.float32) * scale[..., None]
