"""Real images to classify: scikit-learn's digits, or CIFAR-10 from a local folder."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.api import UserError
from distill.errors import first_line

CLASSES = 10
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Images:
    """Images with their labels."""

    x: Tensor
    """Pixels in [0, 1], float32 (N, C, H, W)."""
    y: Tensor
    """Classes, int64 (N,)."""


@dataclass(frozen=True)
class Data:
    """Three disjoint sets: to train on, to choose settings on, and to report."""

    name: str
    train: Images
    validation: Images
    test: Images


def digits() -> Data:
    """1,797 handwritten digits of 8x8 pixels: 1,000 to train on, 297 to choose on, 500 to report.

    They come in the order of their writers, so they are shuffled; the split is the same for every seed.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "the digits come with scikit-learn, which is not installed: pip install -e '.[studies]'"
        ) from error
    bunch = load_digits()
    x, y = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(bunch.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, validation, test = (Images(x[rows], y[rows]) for rows in torch.split(order, [1000, 297, 500]))
    return Data("digits", train, validation, test)


def cifar10(folder: Path) -> Data:
    """CIFAR-10's Python version; the last tenth of its training images is for choosing.

    Args:
        folder: ``cifar-10-batches-py``, or the folder it lies in.

    Raises:
        UserError: a batch is missing, or is not one.
    """
    inner = folder / "cifar-10-batches-py"
    folder = inner if inner.is_dir() else folder
    parts = [_batch(folder / f"data_batch_{number}") for number in range(1, 6)]
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    cut = len(y) - len(y) // 10
    return Data("cifar10", Images(x[:cut], y[:cut]), Images(x[cut:], y[cut:]), _batch(folder / "test_batch"))


def _batch(path: Path) -> Images:
    try:
        with path.open("rb") as file:
            batch = _PlainArrays(file, encoding="bytes").load()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; give the folder of CIFAR-10's Python version"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise UserError(f"{path} is not a batch of CIFAR-10: {first_line(error)}; download it again") from error
    pixels, labels = _fields(batch)
    if pixels is None or labels is None or len(pixels) != len(labels):
        raise UserError(
            f"{path} is not a batch of CIFAR-10: no uint8 rows of {PIXELS} with a label each; download it again"
        )
    return Images(torch.from_numpy(pixels.reshape(-1, 3, 32, 32)).float() / 255, torch.tensor(labels))


def _fields(batch: Any) -> tuple[npt.NDArray[np.uint8] | None, list[int] | None]:
    """Pixels and labels, each None where it is not what CIFAR-10 has there."""
    if not isinstance(batch, dict):
        return None, None
    pixels, labels = batch.get(b"data"), batch.get(b"labels")
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (PIXELS,)):
        pixels = None
    if not (isinstance(labels, list) and all(type(label) is int and 0 <= label < CLASSES for label in labels)):
        labels = None
    return pixels, labels


_reconstruct = np.empty(0).__reduce__()[0]  # numpy has moved it about

ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""All that a pickle of plain arrays may name; a stranger's pickle could otherwise run anything."""


class _PlainArrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]
