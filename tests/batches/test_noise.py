"""Noise on the pixels: what it looks like, what the teacher says of it, and who never sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.batches.loader import Batch, Loader, batches
from distill.batches.noise import PixelNoise
from distill.batches.sampler import Sampler
from distill.config.config import Config
from distill.config.stages import train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.losses.projection import sample
from distill.losses.settings import ObjectiveConfig
from distill.networks.nets import to_unit
from distill.students.folder import load_student
from distill.train.run import objective_name
from teachers.load import load_teacher
from teachers.protocol import Teacher

CPU = torch.device("cpu")
INDEX = np.array([599, 0, 127, 128, 300, 127])
EVERY = slice(None)
SOBOLEV: dict[str, Any] = {"jacobian_weight": 1.0, "jacobian_targets": "online", "law": "fisher", "k": 2}


@pytest.fixture(scope="module")
def dataset(pong_data: Path) -> Dataset:
    return Dataset(pong_data)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("pong")


@pytest.fixture
def make_loader(dataset: Dataset, teacher: Teacher) -> Callable[..., Loader]:
    """``make_loader(seed=3, **objective)``: noise of eight gray levels, if nothing else is said."""

    def make(seed: int = 3, **objective: Any) -> Loader:
        settings = {"jacobian_weight": 0.0, "input_noise": 8.0, **objective}
        return Loader(dataset, ObjectiveConfig(**settings), CPU, seed, teacher)

    return make


def assert_same(a: Batch, b: Batch) -> None:
    np.testing.assert_array_equal(a.index, b.index)
    assert torch.equal(a.obs, b.obs)
    torch.testing.assert_close(a.logits, b.logits)
    assert (a.targets is None) == (b.targets is None)
    if a.targets is not None and b.targets is not None:
        torch.testing.assert_close(a.targets.v, b.targets.v)
        torch.testing.assert_close(a.targets.vjp, b.targets.vjp)


def gray(level: int, states: int = 16) -> torch.Tensor:
    return torch.full((states, 4, 84, 84), level, dtype=torch.uint8)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_noise_is_gaussian_rounded_and_independent(device: str) -> None:
    noise = PixelNoise(8.0, 1, torch.device(device))
    obs = gray(128).to(device)
    noisy = noise.add(obs, 0, 16, EVERY)
    assert (noisy.dtype, noisy.shape, noisy.is_contiguous()) == (torch.uint8, obs.shape, True)
    assert (obs == 128).all(), "the dataset's own pixels stay"
    added = noisy.double() - 128
    assert float(added.mean()) == pytest.approx(0, abs=0.06)  # 450,000 pixels
    assert float(added.std()) == pytest.approx((64 + 1 / 12) ** 0.5, rel=0.006)
    for size in (8, 16):
        assert float((added.abs() < size + 0.4).double().mean()) == pytest.approx(
            float(torch.erf(torch.tensor((size + 0.5) / 8 / 2**0.5))), abs=0.004
        )
    # Neither within a state (pixels, rows, frames) nor between states or steps.
    flat, later = added.flatten(1), noise.add(obs, 1, 16, EVERY).double() - 128
    others = [flat.roll(shift, 1) for shift in (1, 84, 84 * 84)] + [flat.roll(1, 0), later.flatten(1)]
    for other in others:
        assert float((flat * other).mean() / 64) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("level", "deviation"), [(0, 8.0), (255, 8.0), (100, 1e9)])
def test_noisy_pixels_are_clipped(level: int, deviation: float) -> None:
    noisy = PixelNoise(deviation, 1, CPU).add(gray(level), 0, 16, EVERY)
    at_an_end = ((noisy == 0) | (noisy == 255)).double().mean()
    assert float(at_an_end) == pytest.approx(1.0 if deviation > 255 else 0.525, abs=0.005)


def test_noise_depends_on_seed_and_step_alone(make_loader: Callable[..., Loader]) -> None:
    def noisy(seed: int, step: int) -> torch.Tensor:
        return make_loader(seed).load(INDEX, step, carrying=0, noisy=True).obs

    assert torch.equal(noisy(3, 5), noisy(3, 5))
    assert not torch.equal(noisy(3, 5), noisy(3, 6))
    assert not torch.equal(noisy(3, 5), noisy(4, 5))
    assert not torch.equal(noisy(3, 5)[2], noisy(3, 5)[5]), "one state twice in a batch"


def test_labels_are_the_teachers_at_the_noisy_pixels(
    make_loader: Callable[..., Loader], dataset: Dataset, teacher: Teacher
) -> None:
    batch = make_loader(input_noise=30.0).load(INDEX, 0, carrying=0, noisy=True)
    with torch.no_grad():
        want = teacher(to_unit(batch.obs))
    torch.testing.assert_close(batch.logits, want, rtol=1e-4, atol=1e-4)
    stored = torch.from_numpy(dataset.logits[INDEX])
    assert float((batch.logits - stored).abs().max()) > 0.05, "not those of the clean ones"


@pytest.mark.parametrize("law", ["sphere", "fisher"])
def test_derivatives_are_those_at_the_noisy_pixels(
    make_loader: Callable[..., Loader], teacher: Teacher, law: str
) -> None:
    batch = make_loader(input_noise=30.0, **{**SOBOLEV, "law": law}).load(INDEX, 4, noisy=True)
    assert batch.targets is not None
    x = to_unit(batch.obs).requires_grad_()
    logits = teacher(x)
    generator = torch.Generator().manual_seed(int(np.random.default_rng([3, 3, 4]).integers(2**62)))
    v = sample(law, logits.detach(), 2, generator)
    torch.testing.assert_close(batch.targets.v, v, rtol=1e-4, atol=1e-4)
    for k in range(2):
        (want,) = torch.autograd.grad((logits * v[:, k]).sum(), x, retain_graph=True)
        assert float((batch.targets.row(k) - want).norm() / want.norm()) < 1e-3


def test_shares_are_parts_of_the_batch(make_loader: Callable[..., Loader]) -> None:
    loader = make_loader(**SOBOLEV)
    whole = loader.load(INDEX, 2, noisy=True)
    for rank in range(2):
        share = slice(rank, None, 2)
        part = loader.load(INDEX, 2, noisy=True, share=share)
        assert whole.targets is not None
        assert part.targets is not None
        assert torch.equal(part.obs, whole.obs[share])
        torch.testing.assert_close(part.logits, whole.logits[share], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part.targets.v, whole.targets.v[share], rtol=1e-4, atol=1e-4)
        gap = part.targets.row(0) - whole.targets.row(0)[share]
        assert float(gap.norm() / part.targets.row(0).norm()) < 1e-3


def test_only_batches_to_train_on_are_noisy(make_loader: Callable[..., Loader], dataset: Dataset) -> None:
    sampler = Sampler(np.arange(len(dataset)), 4, 3)
    for derivatives, objective in ((False, {}), (True, SOBOLEV)):
        noisy, clean = make_loader(**objective), make_loader(**objective, input_noise=0.0)
        for batch in batches(noisy, sampler, 0, 3, carrying=None if derivatives else (lambda step: 0)):
            assert not np.array_equal(batch.obs, dataset.stacks(batch.index))
        assert_same(
            noisy.load(INDEX, 1, carrying=None if derivatives else 0),
            clean.load(INDEX, 1, carrying=None if derivatives else 0),
        )
    every = np.arange(len(dataset))
    assert noisy.mean_square(every, 1.0, 0.0) == clean.mean_square(every, 1.0, 0.0)


def test_held_out_derivatives_of_a_plain_run_are_the_stored_ones(
    make_loader: Callable[..., Loader], dataset: Dataset
) -> None:
    """A teacher that labels noisy pixels changes nothing in how a run without derivatives is scored."""
    with_teacher = make_loader().load(INDEX, 0)
    without = Loader(dataset, ObjectiveConfig(), CPU, 3, None).load(INDEX, 0)
    assert_same(with_teacher, without)


def test_a_noisy_run(quick: Callable[..., Config]) -> None:
    student = load_student(train(quick(objective={"input_noise": 8.0})))
    assert student.training.objective["input_noise"] == 8.0
    assert student.training.metrics["val_jacobian_cosine"] is not None
    plain = load_student(train(quick("plain")))
    assert student.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        ({}, "kl"),
        ({"input_noise": 8.0}, "kl-noise8"),
        ({"input_noise": 2.5, "divergence": "mse"}, "mse-noise2.5"),
        ({"input_noise": 8.0, "jacobian_weight": 0.01, "jacobian_targets": "online"}, "kl-sobolev0.01-noise8"),
    ],
)
def test_noise_is_in_the_name(objective: dict[str, Any], name: str) -> None:
    assert objective_name(ObjectiveConfig(**{"jacobian_weight": 0.0, **objective})) == name


def test_stored_derivatives_do_not_go_with_noise(quick: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"input_noise=8\.0 moves the pixels .*; use --objective\.jacobian_targets=onl"):
        quick(objective={"input_noise": 8.0, "jacobian_weight": 0.1})


def test_the_teacher_must_be_the_one_that_labelled(quick: Callable[..., Config], other_pong_zip: Path) -> None:
    with pytest.raises(UserError, match=r"other-pong\.zip did not label .*; name it by --teacher"):
        train(quick(objective={"input_noise": 8.0}, teacher=str(other_pong_zip)))
