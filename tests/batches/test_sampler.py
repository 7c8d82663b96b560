"""Which states a batch has: each once an epoch, and first those that carry derivatives, where only some do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from distill.batches.sampler import Sampler
from distill.errors import UserError
from distill.losses.sobolev import states_of_share
from distill.system.streams import Stream, numbered
from distill.train.team import Team

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


def test_the_order_is_a_shuffle_by_seed_and_epoch() -> None:
    """What earlier versions trained on, and runs of theirs go on with."""
    sampler = Sampler(INDEX, 4, seed=3)
    for step in (0, 5, 6, 40):
        order = numbered(Stream.ORDER, 3, step // 6).permutation(INDEX)
        np.testing.assert_array_equal(sampler.batch(step), order[step % 6 * 4 : step % 6 * 4 + 4])


# -- a share of the states carries derivatives -------------------------------------------------------


def some(states: int, carrying: int) -> npt.NDArray[np.bool_]:
    """Which of so many states carry, at random places."""
    return np.random.default_rng(0).permutation(states) < carrying


@pytest.mark.parametrize(
    ("states", "carrying", "batch", "share"),
    [(400, 100, 16, 0.25), (403, 101, 16, 0.25), (403, 130, 16, 0.25), (400, 200, 10, 0.1), (403, 399, 16, 0.25)],
)
def test_the_first_of_every_batch_carry_and_each_state_comes_once(
    states: int, carrying: int, batch: int, share: float
) -> None:
    index, carries = 1000 + np.arange(states), some(states, carrying)
    sampler, first = Sampler(index, batch, 3, carries=carries, share=share), states_of_share(share, batch)
    assert sampler.steps_per_epoch == states // batch
    seen: list[int] = []
    for epoch in range(3):
        steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
        batches = np.stack([sampler.batch(step) for step in steps])
        assert batches.shape == (states // batch, batch)
        assert carries[batches[:, :first] - 1000].all()
        assert len(np.unique(batches)) == batches.size
        seen += batches.ravel().tolist()
    assert len(set(seen)) == states, "what an epoch drops is not always the same"


def test_where_all_places_are_taken_an_epoch_is_a_permutation() -> None:
    carries = some(400, 137)
    sampler = Sampler(INDEX[0] + np.arange(400), 20, 3, carries=carries, share=0.3)
    epoch = np.concatenate([sampler.batch(step) for step in range(20)])
    np.testing.assert_array_equal(np.sort(epoch), INDEX[0] + np.arange(400))


def test_where_slightly_too_few_carry_they_come_again() -> None:
    """100 places of 25 batches, for 90 states: ten of them come twice, and ten of the others not at all."""
    carries = some(400, 90)
    sampler = Sampler(np.arange(400), 16, 3, carries=carries, share=0.25)
    epochs = [np.stack([sampler.batch(25 * epoch + step) for step in range(25)]) for epoch in range(60)]
    for batches in epochs:
        assert carries[batches[:, :4]].all()
        assert not carries[batches[:, 4:]].any()
        counts = np.bincount(batches.ravel(), minlength=400)
        assert np.bincount(counts[carries], minlength=3).tolist() == [0, 80, 10]
        assert np.bincount(counts[~carries], minlength=2).tolist() == [10, 300]
        early = batches[:, :4].ravel()
        np.testing.assert_array_equal(early[90:], early[:10])
    total = np.bincount(np.concatenate(epochs).ravel(), minlength=400)
    assert total[~carries].min() > 48, "the others take turns"


def test_a_stratified_batch_depends_on_its_step_alone() -> None:
    carries = some(100, 30)
    through, jumped = (Sampler(np.arange(100), 8, 3, carries=carries, share=0.25) for _ in range(2))
    batches = [through.batch(step).tolist() for step in range(40)]
    for step in (39, 3, 25, 0):
        assert jumped.batch(step).tolist() == batches[step]
    assert batches[0] != batches[12]


def test_every_process_has_its_part_of_those_that_carry() -> None:
    carries = some(128, 40)
    sampler = Sampler(np.arange(128), 16, 3, carries=carries, share=0.25)
    for rank in range(2):
        mine = sampler.batch(5)[Team(rank, 2).share(16, 0.25)]
        assert carries[mine[:2]].all()


@pytest.mark.parametrize(
    ("carrying", "batch", "share", "first"),
    [(0, 16, 0.25, 4), (60, 16, 0.25, 4), (100, 1, 0.25, 1), (100, 2, 0.25, 1), (399, 1, 0.9, 1), (300, 64, 0.999, 64)],
)
def test_too_few_are_refused(carrying: int, batch: int, share: float, first: int) -> None:
    too_few = rf"{carrying} of 400 training states carry derivatives, too few for {first} of each batch of {batch}; set"
    with pytest.raises(UserError, match=too_few):
        Sampler(np.arange(400), batch, 3, carries=some(400, carrying), share=share)
