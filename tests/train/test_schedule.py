from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from distill.batches.sampler import Sampler
from distill.losses.schedule import jacobian_weight
from distill.losses.settings import ObjectiveConfig
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


def test_learning_rate_moves_as_lambda_falls() -> None:
    objective = ObjectiveConfig(jacobian_until=0.5)
    train = TrainConfig(learning_rate=0.003, early_learning_rate=0.001, warmup=0)
    rate = make_learning_rate(TrainRun(objective=objective, train=train))
    cosine = [learning_rate(step, 100, 1.0, 0) for step in range(100)]
    peaks = np.array([rate(step, 100) for step in range(100)]) / cosine
    np.testing.assert_allclose(peaks[:51], 0.001 + 0.002 * np.arange(51) / 50)
    np.testing.assert_allclose(peaks[50:], 0.003)
    plain = make_learning_rate(TrainRun(objective=replace(objective, jacobian_weight=0.0), train=train))
    assert [plain(step, 100) for step in range(100)] == [rate(step, 100) for step in range(100)]
    usual = make_learning_rate(TrainRun(objective=objective, train=replace(train, early_learning_rate=None)))
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


INDEX = np.arange(100, 125)


def test_an_epoch_takes_each_state_at_most_once_and_only_given_ones() -> None:
    sampler = Sampler(INDEX, 4, seed=3)
    assert sampler.steps_per_epoch == 6
    epochs = [np.concatenate([sampler.batch(6 * epoch + step) for step in range(6)]) for epoch in range(40)]
    for epoch in epochs:
        assert len(set(epoch)) == 24
        assert set(epoch) <= set(INDEX)
    # The one that is dropped changes, so every state is used.
    assert set(np.concatenate(epochs)) == set(INDEX)
    assert (epochs[0] != epochs[1]).any()


def test_an_epoch_of_whole_batches_is_a_permutation() -> None:
    sampler = Sampler(INDEX, 5, seed=3)
    epoch = np.concatenate([sampler.batch(step) for step in range(5)])
    np.testing.assert_array_equal(np.sort(epoch), INDEX)
    assert (epoch != INDEX).any()


def test_a_batch_depends_on_its_step_alone() -> None:
    through, jumped = Sampler(INDEX, 4, seed=3), Sampler(INDEX, 4, seed=3)
    batches = [through.batch(step).tolist() for step in range(20)]
    for step in (19, 3, 11, 0):
        assert jumped.batch(step).tolist() == batches[step]
    assert Sampler(INDEX, 4, seed=4).batch(0).tolist() != batches[0]


def test_fewer_states_than_a_batch_make_one_batch() -> None:
    sampler = Sampler(INDEX[:3], 8, seed=0)
    assert sampler.steps_per_epoch == 1
    assert sorted(sampler.batch(7)) == [100, 101, 102]
