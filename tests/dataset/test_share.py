"""Derivatives of a share of the states: what a shard says, what is read, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.shards import contents_digest, load_shard
from distill.errors import UserError
from distill.records.dataset import Identity, read_manifest
from tests.fixtures.records import edit_record

DERIVATIVES = ("v", "jacobian", "row_scale", "gain")
CARRIES = ([False, True, False, False, True], [False] * 30, [True, True])
"""Of three shards; the second has none."""


@pytest.fixture
def quarter(identity: Identity) -> Identity:
    return replace(identity, jacobian_share=0.25)


def thinned(arrays: ShardArrays, carries: npt.NDArray[np.bool_]) -> ShardArrays:
    """The same shard with the derivatives of some of its states."""
    kept = {name: getattr(arrays, name)[carries] for name in DERIVATIVES if getattr(arrays, name) is not None}
    return replace(arrays, carries=carries, **kept)


@pytest.fixture
def both(
    tmp_path: Path, open_writer: Callable[..., Any], make_arrays: Callable[..., ShardArrays], facts: Any,
    quarter: Identity,
) -> tuple[Path, Path]:  # fmt: skip
    """A dataset with all derivatives, and the same states with some of them."""
    writers = [open_writer(tmp_path / "all"), open_writer(tmp_path / "some", identity=quarter)]
    for seed, carries in enumerate(CARRIES):
        arrays = make_arrays(len(carries), seed, episode=seed)
        writers[0].commit(arrays, facts(seed + 1))
        writers[1].commit(thinned(arrays, np.array(carries)), facts(seed + 1))
    return tmp_path / "all", tmp_path / "some"


@pytest.mark.parametrize("mapped", [False, True])
def test_states_that_carry_have_the_derivatives_they_have_among_all(both: tuple[Path, Path], mapped: bool) -> None:
    every, some = (Dataset(folder, verify=True, mapped=mapped) for folder in both)
    assert (len(every), len(some)) == (37, 37)
    assert some.carries.tolist() == [carries for shard in CARRIES for carries in shard]
    assert every.carries.all()
    assert some.has_jacobian
    index = np.array([36, 1, 35, 4, 1])
    for name in ("codes", "scale"):
        np.testing.assert_array_equal(getattr(some.jacobian(index), name), getattr(every.jacobian(index), name))
    assert every.v is not None
    assert some.v is not None
    np.testing.assert_array_equal(some.v[some.rows_of(index)], every.v[every.rows_of(index)])
    np.testing.assert_array_equal(some.stacks(np.arange(37)), every.stacks(np.arange(37)))
    np.testing.assert_array_equal(some.logits, every.logits)
    some.ask_for(np.array([1, 0]), carrying=1)


def test_other_states_derivatives_are_refused(both: tuple[Path, Path]) -> None:
    some = Dataset(both[1])
    with pytest.raises(
        UserError, match=r"derivatives of a share of its states, 0\.25, and state 7 is none of them; ask"
    ):
        some.jacobian(np.array([1, 7, 8]))


def test_s_is_the_mean_over_states_that_carry(both: tuple[Path, Path]) -> None:
    assert Dataset(both[0]).jacobian_scale == pytest.approx(3 * 1.5 / 37)
    assert Dataset(both[1]).jacobian_scale == pytest.approx(3 * 1.5 / 4)


def test_a_shard_says_which_states_carry(both: tuple[Path, Path]) -> None:
    for number, carries in enumerate(CARRIES):
        shard = both[1] / "shards" / f"a-{number:05d}"
        arrays = load_shard(shard, verify=True)
        assert arrays.carries is not None
        assert arrays.carries.dtype == bool
        assert arrays.carries.tolist() == carries
        assert json.loads((shard / "shard.json").read_text())["carrying"] == sum(carries)
        for name in DERIVATIVES:
            assert getattr(arrays, name).shape[:2] == (sum(carries), 2)
        assert (shard / "jacobian.npy").stat().st_size == 128 + sum(carries) * 2 * 4 * 84 * 84


def test_only_data_of_some_states_need_a_newer_program(both: tuple[Path, Path], identity: Identity) -> None:
    every, some = (json.loads((folder / "dataset.json").read_text()) for folder in both)
    assert (every["version"], some["version"]) == (1, 2)
    assert "jacobian_share" not in every["identity"]
    assert some["identity"]["jacobian_share"] == 0.25
    assert read_manifest(both[0] / "dataset.json").identity == identity
    told = [json.loads((folder / "shards" / "a-00000" / "shard.json").read_text()) for folder in both]
    assert "carrying" not in told[0]
    assert load_shard(both[0] / "shards" / "a-00000").carries is None


def test_the_share_is_part_of_what_the_data_are(
    both: tuple[Path, Path], identity: Identity, quarter: Identity, open_writer: Callable[..., Any]
) -> None:
    assert identity.difference(quarter) == "jacobian_share is 1.0, not 0.25"
    assert replace(identity, jacobian_share=1.0).digest == identity.digest != quarter.digest
    assert contents_digest(identity, {}) != contents_digest(quarter, {})
    with pytest.raises(UserError, match=r"was collected differently: jacobian_share is 0\.25, not 0\.5; choose"):
        open_writer(both[1], writer="b", identity=replace(identity, jacobian_share=0.5))
    with pytest.raises(UserError, match=r"was collected differently: jacobian_share is 0\.25, not 1\.0; choose"):
        open_writer(both[1], writer="b", identity=identity)


def test_a_shard_of_another_share_is_refused(both: tuple[Path, Path]) -> None:
    (both[1] / "shards" / "a-00000").rename(both[0] / "shards" / "b-00000")
    with pytest.raises(UserError, match=r"b-00000 was collected differently from .*all"):
        Dataset(both[0])


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_that_cannot_be_is_damage(both: tuple[Path, Path], share: float) -> None:
    path = both[1] / "dataset.json"
    edit_record(path, lambda record: record["identity"].update(jacobian_share=share))
    with pytest.raises(UserError, match=rf"dataset\.json is damaged: its jacobian_share is {share}, not above 0"):
        Dataset(both[1])


def test_a_record_that_counts_others_is_damage(both: tuple[Path, Path]) -> None:
    edit_record(both[1] / "shards" / "a-00002" / "shard.json", carrying=1)
    with pytest.raises(UserError, match="a-00002 is damaged: its arrays do not fit its record"):
        Dataset(both[1])


@pytest.mark.parametrize("name", ["v", "jacobian", "row_scale", "gain"])
def test_a_row_too_many_is_damage(
    tmp_path: Path, open_writer: Callable[..., Any], make_arrays: Callable[..., ShardArrays], facts: Any,
    quarter: Identity, name: str,
) -> None:  # fmt: skip
    whole = make_arrays(5)
    arrays = thinned(whole, np.array(CARRIES[0]))
    setattr(arrays, name, getattr(whole, name)[:3])
    open_writer(tmp_path / "data", identity=quarter).commit(arrays, facts(1))
    with pytest.raises(UserError, match=r"its row_scale does not fit its gain|is damaged: its \w+ are of another kind"):
        Dataset(tmp_path / "data")


def test_data_in_which_no_state_carries_have_no_derivatives(
    tmp_path: Path, open_writer: Callable[..., Any], make_arrays: Callable[..., ShardArrays], facts: Any,
    quarter: Identity,
) -> None:  # fmt: skip
    """A small share of few states."""
    open_writer(tmp_path / "data", identity=quarter).commit(thinned(make_arrays(5), np.zeros(5, bool)), facts(1))
    for mapped in (False, True):
        dataset = Dataset(tmp_path / "data", verify=True, mapped=mapped)
        assert not dataset.has_jacobian
        assert dataset.carries.tolist() == [False] * 5


def test_a_shard_counts_as_a_copy_whatever_share_carries(
    tmp_path: Path, open_writer: Callable[..., Any], make_arrays: Callable[..., ShardArrays], facts: Any,
    quarter: Identity,
) -> None:  # fmt: skip
    arrays, carries = make_arrays(256), np.zeros(256, bool)
    open_writer(tmp_path / "data", identity=quarter).commit(thinned(arrays, carries), facts(1))
    carries[3] = True
    with pytest.raises(UserError, match=r"what 'b' plays is already in shard a-00000"):
        open_writer(tmp_path / "data", writer="b", identity=quarter).commit(thinned(arrays, carries), facts(1))
