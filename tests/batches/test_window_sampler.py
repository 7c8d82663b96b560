"""Batches of windows: each state once an epoch, by (seed, step) alone, and from few shards at a time."""

from __future__ import annotations

import numpy as np
import pytest

from distill.batches.sampler import Sampler
from distill.batches.window_sampler import OVERLAP, Sliding, WindowSampler
from distill.errors import UserError

STARTS = np.concatenate([[0], np.cumsum([40, 25, 60, 3, 33, 50, 41, 12])])
INDEX = np.flatnonzero(np.random.default_rng(7).random(264) < 0.8)
"""States to train on: not all of any shard."""
CARRIES = np.random.default_rng(8).random(len(INDEX)) < 0.3


def make(window: int = 2, seed: int = 3, batch: int = 8, carrying: bool = False) -> WindowSampler:
    carries = CARRIES if carrying else None
    return WindowSampler(INDEX, batch, seed, Sliding(STARTS, window), carries=carries, share=0.25)


def of_shards(states: np.ndarray) -> set[int]:
    return set((np.searchsorted(STARTS, states, side="right") - 1).tolist())


@pytest.mark.parametrize("window", [1, 2, 3, 8, 20])
def test_an_epoch_takes_each_state_at_most_once(window: int) -> None:
    sampler = make(window)
    assert sampler.steps_per_epoch == len(INDEX) // 8
    seen: set[int] = set()
    for epoch in range(30):
        steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
        states = np.concatenate([sampler.batch(step) for step in steps])
        assert len(states) == len(set(states.tolist())) == len(INDEX) // 8 * 8
        assert set(states.tolist()) <= set(INDEX.tolist())
        seen |= set(states.tolist())
    assert seen == set(INDEX.tolist()), "what an epoch drops is not always the same"


@pytest.mark.parametrize("carrying", [False, True])
def test_a_batch_depends_on_seed_and_step_alone(carrying: bool) -> None:
    through, jumped = make(carrying=carrying), make(carrying=carrying)
    batches = [through.batch(step).tolist() for step in range(80)]
    for step in (79, 3, 41, 40, 0, 26):
        jumped.shards(step + 1)
        assert jumped.batch(step).tolist() == batches[step]
    assert make(seed=4).batch(0).tolist() != batches[0]
    assert batches[0] != batches[through.steps_per_epoch]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_batch_comes_from_the_shards_that_are_held(window: int) -> None:
    sampler = make(window)
    for step in range(3 * sampler.steps_per_epoch):
        held = sampler.shards(step)
        assert len(held) <= window + 1
        # A window of one small shard may leave over states of several before it; else what is held is enough.
        assert window == 1 or of_shards(sampler.batch(step)) <= set(held), step


def test_the_next_window_is_held_before_it_comes() -> None:
    sampler = make(3, batch=4)
    before: list[set[int]] = []
    for step in range(3 * sampler.steps_per_epoch):
        new = of_shards(sampler.batch(step))
        if step % sampler.steps_per_epoch > OVERLAP:  # an epoch's first window is loaded when it comes
            assert new <= before[-1] | before[-2], step
        before.append(set(sampler.shards(step)))


def test_the_first_of_every_batch_carry_derivatives() -> None:
    sampler = make(3, carrying=True)
    place = np.full(264, -1)
    place[INDEX] = np.arange(len(INDEX))
    for step in range(2 * sampler.steps_per_epoch):
        assert CARRIES[place[sampler.batch(step)[:2]]].all()


def test_each_deal_of_a_shard_has_its_share_of_derivatives() -> None:
    """So that they need not come again, nor are left out, where there are just enough: 8 of every 32."""
    carries = np.arange(256) % 4 == 0
    sampler = WindowSampler(np.arange(256), 16, 3, Sliding(np.arange(0, 257, 32), 4), carries=carries, share=0.25)
    for epoch in range(5):
        states = np.stack([sampler.batch(16 * epoch + step) for step in range(16)])
        assert sorted(states.ravel()) == list(range(256))
        assert carries[states[:, :4]].all()


def test_a_window_of_all_shards_is_a_full_shuffle() -> None:
    """Each place has as many states of every shard."""
    sampler = WindowSampler(np.arange(400), 10, 3, Sliding(np.arange(0, 401, 100), 9))
    for place in range(4):
        states = np.concatenate([sampler.batch(10 * place + step) for step in range(10)])
        assert np.bincount(states // 100).tolist() == [25, 25, 25, 25]
    assert set(sampler.shards(0)) == {0, 1, 2, 3}


def test_a_window_without_derivatives_is_refused() -> None:
    carries = np.zeros(len(INDEX), np.bool_)
    carries[:60] = True  # of the first shards alone
    sampler = WindowSampler(INDEX, 8, 3, Sliding(STARTS, 1), carries=carries, share=0.25)
    with pytest.raises(UserError, match=r"none of \d+ training states that are shuffled together carries derivatives"):
        list(map(sampler.batch, range(sampler.steps_per_epoch)))


def test_a_full_shuffle_needs_no_shards() -> None:
    assert Sampler(INDEX, 8, 3).shards(5) == ()
