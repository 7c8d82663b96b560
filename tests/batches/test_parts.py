"""Data in parts of whole shards: every batch has as many states of each, and a process's share is of its own parts."""

from __future__ import annotations

import numpy as np
import pytest

from distill.batches.parts import EVERY, PartedSampler, parts_of, size_of_part
from distill.batches.window_sampler import Sliding, WindowSampler
from distill.errors import UserError
from distill.train.team import Team

STARTS = np.concatenate([[0], np.cumsum([40, 25, 60, 3, 33, 50, 41, 12])])
INDEX = np.flatnonzero(np.random.default_rng(7).random(264) < 0.8)
CARRIES = np.random.default_rng(8).random(len(INDEX)) < 0.4


def make(count: int, rank: int = 0, world: int = 1, window: int = EVERY) -> PartedSampler:
    samplers = [
        WindowSampler(
            INDEX[mine],
            size_of_part(24, count, 0.25),
            3,
            Sliding(STARTS, window, part),
            carries=CARRIES[mine],
            share=0.25,
        )
        for part, mine in enumerate(parts_of(INDEX, STARTS, count))
    ]
    return PartedSampler(samplers, slice(rank, None, world))


def of_shards(states: np.ndarray) -> set[int]:
    return set((np.searchsorted(STARTS, states, side="right") - 1).tolist())


@pytest.mark.parametrize("count", [2, 3])
def test_parts_are_whole_shards_of_about_one_size(count: int) -> None:
    parts = [INDEX[mine] for mine in parts_of(INDEX, STARTS, count)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), INDEX)
    shards = [of_shards(part) for part in parts]
    assert sum(map(len, shards)) == len(set.union(*shards))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 60


@pytest.mark.parametrize(("count", "world"), [(2, 2), (3, 3), (6, 3), (6, 2)])
@pytest.mark.parametrize("window", [1, EVERY])
def test_a_processs_share_is_of_its_own_shards(count: int, world: int, window: int) -> None:
    alone = make(count, window=window)
    assert (alone.batch_size, alone.steps_per_epoch) == (24, len(INDEX) // 24)
    seen: list[set[int]] = []
    for rank in range(world):
        mine, share = make(count, rank, world, window), Team(rank, world).share(24, 0.25)
        seen.append(set())
        for step in range(30):
            np.testing.assert_array_equal(mine.batch(step), alone.batch(step))  # whoever asks
            seen[-1] |= of_shards(mine.batch(step)[share])
            if window == EVERY:
                assert of_shards(mine.batch(step)[share]) <= set(mine.shards(step))
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_the_first_of_every_batch_carry_derivatives() -> None:
    place = np.full(264, -1)
    place[INDEX] = np.arange(len(INDEX))
    sampler = make(3)
    for step in range(30):
        batch = sampler.batch(step)
        assert len(set(batch.tolist())) == 24
        assert CARRIES[place[batch[:6]]].all()


def test_parts_are_shuffled_unlike_each_other() -> None:
    starts = np.array([0, 50, 100])
    samplers = [
        WindowSampler(np.arange(50 * part, 50 * part + 50), 5, 3, Sliding(starts, 1, part)) for part in range(2)
    ]
    assert any((samplers[0].batch(step) != samplers[1].batch(step) - 50).any() for step in range(10))


@pytest.mark.parametrize(
    ("size", "count", "share", "message"),
    [
        (25, 2, None, "--train.batch_size=25 cannot be shared by --train.parts=2 equally"),
        (24, 5, None, "cannot be shared by --train.parts=5"),
        (16, 8, 0.25, r"jacobian_share=0\.25 gives 4 of 16 states derivatives, which --train.parts=8"),
    ],
)
def test_what_cannot_be_shared_is_refused(size: int, count: int, share: float | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        size_of_part(size, count, share)


def test_more_parts_than_shards_are_refused() -> None:
    with pytest.raises(UserError, match=r"--train\.parts=9 but only 8 shards have training states"):
        parts_of(INDEX, STARTS, 9)
    with pytest.raises(UserError, match="a part has fewer training states than its share of a batch"):
        make_uneven()


def make_uneven() -> PartedSampler:
    samplers = [WindowSampler(np.arange(n), 8, 3, Sliding(np.array([0, n]), 1)) for n in (20, 5)]
    return PartedSampler(samplers, slice(None))
