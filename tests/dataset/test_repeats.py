"""What occurs twice is found, whatever it is called, and never stands on both sides of a split."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.collect.verify import verify
from distill.dataset.reader import Dataset
from distill.dataset.repeats import FEW, distinct_games, play_digest, repeats
from distill.dataset.schema import GAME_BITS, GAME_MASK, ShardArrays
from distill.dataset.split import split_by_episode
from distill.errors import UserError
from distill.records.seal import sealed
from teachers.load import load_teacher

Make = Callable[[int, int], ShardArrays]


@pytest.fixture
def shard(make_arrays: Callable[..., ShardArrays]) -> Make:
    """``shard(states, seed)``: without derivatives, which only make it large."""

    def make(states: int, seed: int = 0) -> ShardArrays:
        arrays = make_arrays(states, seed)
        arrays.jacobian = arrays.v = arrays.row_scale = arrays.gain = None
        return arrays

    return make


def copy_writer(folder: Path, name: str, **changes: Any) -> None:
    """Give the dataset another writer with the same shards, as two processes of one seed once recorded them."""
    for path in sorted(folder.glob("shards/teacher-*")):
        other = Path(shutil.copytree(path, path.with_name(f"{name}-{path.name.rsplit('-', 1)[1]}")))
        record = json.loads((other / "shard.json").read_text())
        files = record["files"] | changes
        kept = {key: value for key, value in record.items() if key not in ("checksum", "play")}
        (other / "shard.json").write_text(json.dumps(kept | {"files": files}))


@pytest.mark.parametrize("states", [3, FEW])
def test_a_shard_that_is_there_is_not_written_again(
    tmp_path: Path, open_writer: Callable[..., Any], shard: Make, facts: Any, states: int
) -> None:
    first = open_writer(tmp_path / "data")
    first.commit(shard(states), facts(1))
    for writer in (first, open_writer(tmp_path / "data", "b")):
        with pytest.raises(
            UserError, match=r"is already in shard a-00000 of .*; use another --seed or --collect\.writer"
        ):
            writer.commit(shard(states), facts(1))
        assert [path.name for path in (tmp_path / "data" / "shards").iterdir()] == ["a-00000"]
    first.commit(shard(states, 1), facts(2))


def test_the_same_play_with_other_labels_is_a_copy(
    tmp_path: Path, open_writer: Callable[..., Any], shard: Make, facts: Any
) -> None:
    open_writer(tmp_path / "data").commit(shard(FEW), facts(1))
    again = shard(FEW)
    again.logits = again.logits + 1
    again.episode = again.episode + 5
    with pytest.raises(UserError, match="is already in shard a-00000"):
        open_writer(tmp_path / "data", "b").commit(again, facts(6))


def test_short_shards_may_be_alike(shard: Make) -> None:
    """Games open alike: that is no mistake."""
    assert play_digest(shard(FEW - 1)) is None
    assert play_digest(shard(FEW)) == play_digest(shard(FEW)) != play_digest(shard(FEW, 1))


def test_copies_in_data_of_an_earlier_version_are_refused(pong_copy: Path) -> None:
    copy_writer(pong_copy, "second")
    for use in (lambda: Dataset(pong_copy), lambda: verify(pong_copy, load_teacher("pong"))):
        with pytest.raises(UserError, match=r"shard teacher-00000 holds the same games as second-00000.*'teacher'"):
            use()


def rearranged(whole: Dataset, states: np.ndarray, episode: np.ndarray) -> Dataset:
    """States of a dataset in another order, as states of other games."""
    other = copy.copy(whole)
    other.pos, other.action, other.episode = whole.pos[states], whole.action[states], episode
    return other


def test_copied_games_stay_on_one_side_of_the_split(pong_data: Path) -> None:
    """However many shards they are cut into, and one copy longer than the other."""
    whole = Dataset(pong_data)
    half = {game: np.flatnonzero(whole.episode == game)[:40] for game in np.unique(whole.episode).tolist()}
    index = np.concatenate(list(half.values()))
    states = np.concatenate([np.arange(len(whole)), index])
    both = rearranged(whole, states, np.concatenate([whole.episode, whole.episode[index] + 7 + (1 << GAME_BITS)]))
    both.writers = ["long", "short"]
    groups = distinct_games(both).copies
    assert sorted(len(copies) for copies in groups.values()) == [2] * len(half)
    assert all(len({game & GAME_MASK for game in copies} - {7}) for copies in groups.values())
    for seed in range(5):
        train, held = split_by_episode(both, 0.3, seed)
        assert len(train) > 0
        assert {int(both.pos[state]) for state in held}.isdisjoint(int(both.pos[state]) for state in train)


def test_games_that_only_open_alike_are_different(pong_data: Path) -> None:
    data = Dataset(pong_data)
    assert distinct_games(data).copies == {game: [game] for game in np.unique(data.episode).tolist()}


OTHER = 1 << GAME_BITS


@pytest.fixture
def with_fragment(pong_data: Path) -> Callable[..., Dataset]:
    """``with_fragment(both)``: ten games of writer a, and two of b besides a fragment that begins a's first game.

    With ``both`` it begins a's second one, too: these two part after two states.
    """

    def make(both: bool) -> Dataset:
        whole = Dataset(pong_data)
        four = {game: np.flatnonzero(whole.episode == game) for game in np.unique(whole.episode).tolist()}
        first, *others = four.values()
        parts = [first, first, *(part[start : start + 30] for part in others for start in (10, 50, 90))][:10]
        parts += [first[:2], others[0], others[1]]
        numbers = [*range(10), *(OTHER + number for number in range(3))]
        data = rearranged(whole, np.concatenate(parts), np.repeat(numbers, [len(part) for part in parts]))
        data.action = data.action.copy()
        data.action[len(first) + (2 if both else 1)] ^= 1
        data.writers = ["a", "b"]
        return data

    return make


def test_a_short_fragment_makes_no_copies_of_the_games_that_it_begins(with_fragment: Callable[..., Dataset]) -> None:
    copies = distinct_games(with_fragment(both=False)).copies
    assert {game: games for game, games in copies.items() if len(games) > 1} == {0: [OTHER, 0]}
    copies, own = distinct_games(with_fragment(both=True))
    assert {game: games for game, games in copies.items() if len(games) > 1} == {0: [OTHER, 0], 1: [OTHER, 1]}
    assert {writer: sorted(games) for writer, games in own.items()} == {
        0: [*range(10)],
        1: [OTHER, OTHER + 1, OTHER + 2],
    }


def test_a_fragment_moves_no_game_and_is_held_out_with_what_it_begins(with_fragment: Callable[..., Dataset]) -> None:
    data = with_fragment(both=True)
    a = np.flatnonzero(data.episode < OTHER)
    alone = rearranged(data, a, data.episode[a])
    alone.writers = ["a"]
    followed = set()
    for seed in range(20):
        held = set(data.episode[split_by_episode(data, 0.3, seed)[1]].tolist())
        assert {game for game in held if game < OTHER} == set(
            alone.episode[split_by_episode(alone, 0.3, seed)[1]].tolist()
        )
        assert held & {OTHER + 1, OTHER + 2}, "something of every writer is held out"
        assert (OTHER in held) == ({0, 1} <= held)
        followed.add(OTHER in held)
    assert followed == {True, False}


def test_a_dataset_of_one_game_over_and_over_cannot_be_split(pong_data: Path) -> None:
    whole = Dataset(pong_data)
    index = np.flatnonzero(whole.episode == 0)
    many = rearranged(whole, np.tile(index, 3), np.repeat([0, 1, 2], len(index)))
    with pytest.raises(UserError, match=r"3 games from one writer that are all the same game.*sample the actions"):
        split_by_episode(many, 0.1, 1)


def test_repeats_are_counted_pixel_by_pixel(pong_data: Path) -> None:
    """Against a plain comparison of whole stacks."""
    data = Dataset(pong_data)
    first = data.episode <= np.median(data.episode)
    a, b = np.flatnonzero(first), np.flatnonzero(~first)
    seen = {stack.tobytes() for stack in data.stacks(b)}
    want = float(np.mean([stack.tobytes() in seen for stack in data.stacks(a)]))
    assert 0 < want < 0.5
    assert repeats(data, a, data, b) == want
    assert repeats(data, a, data, a) == 1
    assert repeats(data, a[:0], data, b) == 0


def test_digest_tells_data_apart(pong_data: Path, pong_copy: Path) -> None:
    assert Dataset(pong_copy).digest == Dataset(pong_data).digest
    last = sorted(pong_copy.glob("shards/*"))[-1]
    record = json.loads((last / "shard.json").read_text())
    record["files"]["jacobian.npy"]["sha256"] = "0" * 64
    (last / "shard.json").write_text(json.dumps(sealed({k: v for k, v in record.items() if k != "checksum"})))
    assert Dataset(pong_copy).digest != Dataset(pong_data).digest
    shutil.rmtree(last)
    (pong_copy / "writers" / "teacher.json").unlink()
    assert Dataset(pong_copy).digest != Dataset(pong_data).digest
