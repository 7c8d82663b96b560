"""A batch is the same wherever it is gathered: on the host, or on the device that holds everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.batches import source
from distill.batches.loader import Loader, batches
from distill.batches.sampler import Sampler
from distill.batches.source import Resident, Streamed, make_source, resident_bytes
from distill.config.config import Config
from distill.config.stages import train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.losses.settings import ObjectiveConfig

CPU = torch.device("cpu")
INDEX = np.array([599, 0, 127, 128, 300, 127])


@pytest.fixture
def dataset(pong_data: Path) -> Dataset:
    return Dataset(pong_data)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("carrying", [0, 2, len(INDEX)])
def test_resident_states_are_the_streamed_ones(dataset: Dataset, carrying: int, device: str) -> None:
    there = torch.device(device)
    streamed = Streamed(dataset, there).states(INDEX, carrying=carrying)
    resident = Resident(dataset, there, derivatives=carrying > 0).states(INDEX, carrying=carrying)
    assert vars(streamed).keys() == vars(resident).keys()
    for name, want in vars(streamed).items():
        got = getattr(resident, name)
        assert (want is None) == (got is None) == (name in ("v", "codes", "scale") and not carrying), name
        if want is not None:
            assert len(want) == len(got) == (carrying if name in ("v", "codes", "scale") else len(INDEX))
            assert (got.dtype, got.device.type) == (want.dtype, device), name
            torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_they_agree_on_data_of_which_some_states_carry_derivatives(pong_quarter: Path, device: str) -> None:
    data, there = Dataset(pong_quarter), torch.device(device)
    index = np.concatenate([np.flatnonzero(data.carries)[[7, 0, 100]], np.flatnonzero(~data.carries)[[3, 50]]])
    mapped = Dataset(pong_quarter, mapped=True)
    streamed, *others = (
        each.states(index, carrying=3)
        for each in (Streamed(data, there), Streamed(mapped, there), Resident(data, there, derivatives=True))
    )
    for other in others:
        for name, want in vars(streamed).items():
            torch.testing.assert_close(getattr(other, name), want, rtol=0, atol=0)
    with pytest.raises(UserError, match=f"state {index[3]} is none of them"):
        Resident(data, there, derivatives=True).states(index, carrying=4)
    assert resident_bytes(data, derivatives=True) < resident_bytes(data, derivatives=False) + 0.27 * 600 * 4 * 84 * 88


def test_loaders_agree_on_every_batch(dataset: Dataset) -> None:
    index = np.arange(len(dataset))
    seen = []
    for hold_data in ("memory", "device"):
        chosen = make_source(dataset, CPU, hold_data, derivatives=True)
        loader = Loader(dataset, ObjectiveConfig(jacobian_weight=1.0), CPU, 3, None, chosen)
        seen.append(list(batches(loader, Sampler(index, 8, 3), 2, 7)))
    assert len(seen[0]) == 5
    for streamed, resident in zip(*seen, strict=True):
        np.testing.assert_array_equal(streamed.index, resident.index)
        torch.testing.assert_close(resident.obs, streamed.obs)
        assert streamed.targets is not None
        assert resident.targets is not None
        torch.testing.assert_close(resident.targets.row(0), streamed.targets.row(0), rtol=0, atol=0)


def test_resident_changes_nothing_in_a_run(quick: Callable[..., Config], pong_copy: Path) -> None:
    weights = []
    for where in ("memory", "device", "disk"):
        config = quick(where, objective={"jacobian_weight": 0.1}, train={"hold_data": where, "data": str(pong_copy)})
        weights.append(torch.load(train(config) / "checkpoints" / "last.pt", weights_only=True)["model"])
    assert (pong_copy / "cache").is_dir()
    for other in weights[1:]:
        for name, value in weights[0].items():
            assert torch.equal(other[name], value), name


def test_bytes_are_what_is_held(dataset: Dataset) -> None:
    held = Resident(dataset, CPU, derivatives=True)
    tensors = [value for value in vars(held).values() if isinstance(value, torch.Tensor) and value.numel() > 4]
    assert resident_bytes(dataset, derivatives=True) == sum(part.nbytes for part in tensors)
    assert resident_bytes(dataset, derivatives=False) < resident_bytes(dataset, derivatives=True) / 2


def test_a_gpu_holds_what_fits(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, size = torch.device("cuda"), resident_bytes(dataset, derivatives=True)
    asked: list[object] = []
    monkeypatch.setattr(source, "Resident", lambda *args, **kwargs: asked.append(args) or "resident")
    for free, resident in ((size * 2, True), (size, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        chosen = make_source(dataset, cuda, "auto", derivatives=True)
        assert (chosen == "resident") is resident
    assert isinstance(make_source(dataset, CPU, "auto", derivatives=True), Streamed)


def test_what_does_not_fit_says_so(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(source, "_joined", full)
    with pytest.raises(UserError, match=r"takes [\d,]+ bytes, more than cpu has free; use --train.hold_data=memory"):
        Resident(dataset, CPU, derivatives=True)
