from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from distill.losses.schedule import jacobian_weight
from distill.losses.settings import ObjectiveConfig
from distill.train.auto import make_plan
from distill.train.schedule import learning_rate
from distill.train.settings import TrainConfig, TrainRun
from distill.train.setup import make_learning_rate


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 110, 0.5, 10) for step in range(111)]
    np.testing.assert_allclose(rates[:10], 0.05 * np.arange(1, 11))
    assert rates[10] == 0.5
    assert rates[60] == pytest.approx(0.25)
    assert rates[35] == pytest.approx(0.25 * (1 + math.sqrt(0.5)))
    assert rates[110] == pytest.approx(0, abs=1e-12)
    assert (np.diff(rates[10:]) < 0).all()


def test_learning_rate_without_warm_up_and_with_too_long_a_one() -> None:
    assert learning_rate(0, 100, 0.5, 0) == 0.5
    assert [learning_rate(step, 4, 1.0, 8) for step in range(4)] == [0.125, 0.25, 0.375, 0.5]
    assert learning_rate(8, 4, 1.0, 8) == 1.0


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        ("constant", [2, 2, 0, 0, 0]),
        ("linear", [2, 1, 0, 0, 0]),
        ("cosine", [2, 1, 0, 0, 0]),
    ],
)
def test_jacobian_weight_until_half_of_the_steps(schedule: str, want: list[float]) -> None:
    got = [jacobian_weight(step, 100, 2.0, schedule, 0.5) for step in (0, 25, 50, 75, 100)]
    np.testing.assert_allclose(got, want, atol=1e-12)


def scheduled(config: TrainRun) -> Callable[[int, int], float]:
    return make_learning_rate(config, make_plan(config, 1000))


def test_learning_rate_moves_as_lambda_falls() -> None:
    objective = ObjectiveConfig(jacobian_until=0.5)
    train = TrainConfig(learning_rate=0.003, early_learning_rate=0.001, warmup=0)
    rate = scheduled(TrainRun(objective=objective, train=train))
    cosine = [learning_rate(step, 100, 1.0, 0) for step in range(100)]
    peaks = np.array([rate(step, 100) for step in range(100)]) / cosine
    np.testing.assert_allclose(peaks[:51], 0.001 + 0.002 * np.arange(51) / 50)
    np.testing.assert_allclose(peaks[50:], 0.003)
    plain = scheduled(TrainRun(objective=replace(objective, jacobian_weight=0.0), train=train))
    assert [plain(step, 100) for step in range(100)] == [rate(step, 100) for step in range(100)]
    usual = scheduled(TrainRun(objective=objective, train=replace(train, early_learning_rate=None)))
    np.testing.assert_allclose([usual(step, 100) for step in range(100)], 0.003 * np.array(cosine))


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        ("constant", [2, 2, 2, 2, 2]),
        ("linear", [2, 1.5, 1, 0.5, 0]),
        ("cosine", [2, 1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5), 0]),
    ],
)
def test_jacobian_weight(schedule: str, want: list[float]) -> None:
    got = [jacobian_weight(step, 100, 2.0, schedule) for step in (0, 25, 50, 75, 100)]
    np.testing.assert_allclose(got, want, atol=1e-12)
