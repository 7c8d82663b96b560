"""The influence measure against its definition, with pseudo-inverses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.batches.loader import Loader
from distill.config.config import Config
from distill.config.stages import sweep
from distill.dataset.reader import Dataset
from distill.engine.step import make_engine
from distill.errors import UserError
from distill.figures.fidelity import figures_of
from distill.figures.figure import FIGURES
from distill.figures.influence import influence, influence_share, patch_influence, patch_maps
from distill.losses.settings import ObjectiveConfig
from teachers.load import load_teacher
from tests.fixtures.nets import MakeNet


def by_definition(jacobian: Tensor, logits: Tensor, action: int) -> float:
    """grad f G^+ grad f^T for one state: derivatives (A, n), logits (A,)."""
    p = logits.double().softmax(-1)
    slopes = p[:, None] * (jacobian.double() - (p[:, None] * jacobian.double()).sum(0))  # dp / d omega, (A, n)
    metric = slopes.T @ torch.diag(1 / p) @ slopes
    of_log = slopes[action] / p[action]
    return float(of_log @ torch.linalg.pinv(metric, rtol=1e-6) @ of_log)


@pytest.fixture
def scene(make_net: MakeNet) -> tuple[Tensor, Tensor]:
    """Jacobians (3, 5, 4, 12, 12) in double, of a real network where it looks at few pixels; and logits."""
    generator = torch.Generator().manual_seed(1)
    jacobian = torch.randn(3, 5, 4, 12, 12, generator=generator, dtype=torch.float64)
    jacobian[0, :, 0, :3, :3] = 0  # nothing can be done there
    return jacobian, torch.randn(3, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("given", [None, [0, 3, 4]])
def test_patches_against_the_definition(scene: tuple[Tensor, Tensor], size: int, given: list[int] | None) -> None:
    jacobian, logits = scene
    action = logits.argmax(-1) if given is None else torch.tensor(given)
    maps = patch_influence(jacobian, logits, size, None if given is None else action)
    half = size // 2
    for state, frame, row, column in [(0, 0, 0, 0), (1, 1, 5, 6), (2, 3, 11, 4), (0, 2, 6, 11)]:
        rows = slice(max(row - half, 0), row + half + 1)
        columns = slice(max(column - half, 0), column + half + 1)
        part = jacobian[state, :, frame, rows, columns].flatten(1)
        want = by_definition(part, logits[state], int(action[state]))
        assert float(maps[state, frame, row, column]) == pytest.approx(want, rel=1e-5, abs=1e-12)


def test_of_one_pixel_it_is_a_ratio_of_squares(scene: tuple[Tensor, Tensor]) -> None:
    jacobian, logits = scene
    p = logits.softmax(-1)
    of_log = jacobian - (p[:, :, None, None, None] * jacobian).sum(1, keepdim=True)
    mine = of_log[torch.arange(3), logits.argmax(-1)].square()
    every = (p[:, :, None, None, None] * of_log.square()).sum(1)
    want = torch.where(every > 0, mine / every.clamp_min(1e-300), torch.zeros(()))
    torch.testing.assert_close(patch_influence(jacobian, logits), want)


def test_of_a_whole_image_it_says_nothing_of_the_derivatives() -> None:
    """The Jacobian of a trained agent has rank A - 1."""
    teacher = load_teacher("pong")
    x = torch.randint(0, 256, (2, 4, 84, 84), generator=torch.Generator().manual_seed(0)).float() / 255
    jacobian = torch.stack([torch.autograd.functional.jacobian(teacher.net, one[None])[0, :, 0] for one in x])  # type: ignore[no-untyped-call]
    with torch.no_grad():
        logits = teacher.net(x)
    p = logits.double().softmax(-1).amax(-1)
    found = influence(jacobian.flatten(2), logits)
    # The cut at 1e-3 of the largest singular value may take a direction that hardly is one.
    assert (found <= 1 / p - 1 + 1e-9).all()
    torch.testing.assert_close(found, 1 / p - 1, rtol=1e-3, atol=1e-6)
    other = influence(torch.randn(2, 6, 50, generator=torch.Generator().manual_seed(1)), logits)
    torch.testing.assert_close(other, 1 / p - 1)


def test_a_rescaling_of_pixels_changes_nothing(scene: tuple[Tensor, Tensor]) -> None:
    jacobian, logits = scene
    torch.testing.assert_close(patch_influence(37 * jacobian, logits, 3), patch_influence(jacobian, logits, 3))
    # One pixel alone may be rescaled by anything, and so may all of an image whose rank is full.
    factors = torch.rand(12, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    torch.testing.assert_close(patch_influence(factors * jacobian, logits), patch_influence(jacobian, logits))
    torch.testing.assert_close(
        influence((factors * jacobian).flatten(2), logits), influence(jacobian.flatten(2), logits)
    )


def test_of_a_sure_agent_nothing_is_lost_to_rounding(scene: tuple[Tensor, Tensor]) -> None:
    """Of two actions every pixel has 1/p - 1, however small that is."""
    jacobian, _ = scene
    found = patch_influence(jacobian[1:, :2], torch.tensor([[50.0, 0.0]] * 2))
    torch.testing.assert_close(found, torch.full_like(found, math.exp(-50)), rtol=1e-6, atol=0)


def test_figures_are_quantiles_over_states(pong_data: Path) -> None:
    data, teacher = Dataset(pong_data), load_teacher("pong")
    index = np.array([3, 99, 200, 431])
    loader = Loader(data, ObjectiveConfig(), torch.device("cpu"), 1, None)
    figures = [FIGURES["fi3_median"], FIGURES["fi3_p75"], FIGURES["kl"]]
    found = figures_of(teacher.net, make_engine(teacher.net), loader, index, 1.0, figures)
    _, maps = patch_maps(teacher.net, torch.from_numpy(data.stacks(index)), 3)
    means = maps.flatten(1).mean(1).numpy()
    assert found["fi3_median"] == pytest.approx(np.median(means))
    assert found["fi3_p75"] == pytest.approx(np.quantile(means, 0.75))
    assert found["kl"] == pytest.approx(0, abs=1e-6)
    shares = influence_share(teacher.net, torch.from_numpy(data.stacks(index)))
    assert float(shares.min()) >= 0
    assert float(shares.max()) <= 1


def test_a_sweep_refuses_a_quantile(quick: Callable[..., Config], pong_data: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"grid": {"seed": [1]}, "data": str(pong_data), "out": str(tmp_path / "sweep")}
    config = quick(sweep=settings, evaluate={"figures": ["fi1_median"]})
    with pytest.raises(UserError, match="'fi1_median' is a quantile over states, which a sweep cannot add up"):
        sweep(config)
