"""The digits' split, and a reader of CIFAR-10 that runs no stranger's code."""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from distill.api import UserError
from studies.synthetic.data import cifar10, digits

Pixels = npt.NDArray[np.uint8]


def python2_batch(pixels: Pixels, labels: Sequence[int]) -> bytes:
    """A batch opcode by opcode as Python 2 wrote the published ones: its strings are what Python 3 calls bytes."""
    rows, columns = pixels.shape
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86"
    raw = b"T" + struct.pack("<i", pixels.size) + pixels.tobytes()
    data = reconstruct + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    about = b"U\x0bbatch_labelU\x15training batch 1 of 5"
    return b"\x80\x02}(" + about + b"U\x06labels" + listed + b"U\x04data" + data + b"u."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "cifar-10-batches-py"
    inner.mkdir()
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        (inner / name).write_bytes(python2_batch(_pixels(4, number), [number, 9, 0, 1]))
    return inner


def _pixels(rows: int, seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (rows, 3072), np.uint8)


def test_digits_are_split_without_overlap_and_always_alike() -> None:
    pytest.importorskip("sklearn")
    data = digits()
    parts = [data.train, data.validation, data.test]
    assert [tuple(part.x.shape) for part in parts] == [(1000, 1, 8, 8), (297, 1, 8, 8), (500, 1, 8, 8)]
    assert torch.cat([part.x.flatten(1) for part in parts]).unique(dim=0).shape[0] == 1797
    assert all(float(part.x.max()) == 1.0 and part.y.unique().tolist() == list(range(10)) for part in parts)
    assert torch.equal(digits().test.x, data.test.x)


def test_digits_without_scikit_learn_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"\[studies\]"):
        digits()


@pytest.mark.parametrize("above", [False, True])
def test_cifar10_is_read_as_published(folder: Path, above: bool) -> None:
    data = cifar10(folder.parent if above else folder)
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (18, 2, 4)
    assert data.train.y[:5].tolist() == [0, 9, 0, 1, 1]
    red, green, blue = (data.test.x[2, channel, 0, 1] * 255 for channel in range(3))
    expected = _pixels(4, 5)[2, [1, 1024 + 1, 2048 + 1]]
    assert torch.stack([red, green, blue]).round().tolist() == expected.tolist()
    assert data.train.x.dtype == torch.float32


class Stranger:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_strangers_pickle_runs_nothing(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "test_batch").write_bytes(pickle.dumps({"data": Stranger(ran)}, protocol=2))
    with pytest.raises(UserError, match=r"test_batch is not a batch of CIFAR-10: it asks for io\.open"):
        cifar10(folder)
    assert not ran.exists()
    pickle.loads((folder / "test_batch").read_bytes())
    assert ran.exists()  # it is a hostile one


@pytest.mark.parametrize(
    "content",
    [
        b"",
        python2_batch(_pixels(2, 0), [0, 1])[:-40],
        python2_batch(_pixels(2, 0), [0]),
        python2_batch(_pixels(2, 0), [0, 10]),
        python2_batch(_pixels(2, 0)[:, :-1], [0, 1]),
        pickle.dumps([1, 2], protocol=2),
    ],
    ids=["empty", "cut off", "label missing", "eleventh class", "pixel missing", "no dictionary"],
)
def test_a_damaged_batch_is_named(folder: Path, content: bytes) -> None:
    (folder / "data_batch_3").write_bytes(content)
    with pytest.raises(UserError, match="data_batch_3 is not a batch of CIFAR-10"):
        cifar10(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nowhere.data_batch_1: No such file"):
        cifar10(tmp_path / "nowhere")
