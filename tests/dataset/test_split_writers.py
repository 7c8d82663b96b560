"""Another writer's data must not move a game from the held-out set into training."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from distill.dataset.reader import Dataset
from distill.dataset.schema import GAME_BITS, GAME_MASK
from distill.dataset.split import split_by_episode


def dataset(writers: dict[str, int]) -> Dataset:
    """What the split reads of a dataset: writers by name, each with so many games of three states."""
    owner = np.repeat(np.arange(len(writers)), [3 * games for games in writers.values()])
    game = np.concatenate([np.repeat(np.arange(games), 3) for games in writers.values()])
    states = len(owner)
    made = Dataset.__new__(Dataset)
    made.folder, made.writers, made.episode = Path("here"), list(writers), (owner << GAME_BITS) + game
    made.frames = np.random.default_rng(0).integers(256, size=(states + 3, 84, 84), dtype=np.uint8)
    made.pos, made.action = 3 + np.arange(states), np.zeros(states, np.int16)
    return made


def test_a_new_writer_leaves_the_others_held_out_games_alone() -> None:
    alone = dataset({"teacher": 40})
    both = dataset({"student-1": 40, "teacher": 40})  # sorts before the teacher, and takes its place as number 0
    _, held = split_by_episode(alone, 0.1, seed=3)
    _, held_of_both = split_by_episode(both, 0.1, seed=3)
    of_teacher = held_of_both[both.writer[held_of_both] == 1]
    np.testing.assert_array_equal(
        np.unique(alone.episode[held] & GAME_MASK), np.unique(both.episode[of_teacher] & GAME_MASK)
    )
    of_student = held_of_both[both.writer[held_of_both] == 0]
    assert set(both.episode[of_student] & GAME_MASK) != set(both.episode[of_teacher] & GAME_MASK)


def test_which_games_are_held_out_is_written_down() -> None:
    """Students' papers keep a digest of it: a new rule would make every student's own test set unknown."""
    both = dataset({"student-1": 30, "teacher": 40})
    held = np.unique(both.episode[split_by_episode(both, 0.2, seed=3)[1]])
    want = []
    for writer, (name, games) in enumerate({"student-1": 30, "teacher": 40}.items()):
        key = {game: hashlib.sha256(f"3:{name}:{game}".encode()).hexdigest() for game in range(games)}
        want += [(writer << 40) + game for game in sorted(sorted(key, key=lambda game: key[game])[: games // 5])]
    assert held.tolist() == want
