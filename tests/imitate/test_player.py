from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distill.agents.actor import Policy
from distill.collect.games import Games
from distill.config.config import Config
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.imitate.player import Player
from distill.networks.nets import AtariCNN, NetSpec
from teachers.load import load_teacher
from teachers.protocol import Teacher

CPU = torch.device("cpu")
Make = Callable[..., Player]


@pytest.fixture
def teacher() -> Teacher:
    return load_teacher("breakout")


@pytest.fixture
def student() -> Policy:
    torch.manual_seed(1)
    return Policy(AtariCNN(NetSpec(((2, 8, 4),), ()), 4), CPU)


@pytest.fixture
def start(teacher: Teacher, make_config: Callable[..., Config]) -> Make:
    def make(lanes: int = 2, seed: int = 1, first: int = 0) -> Player:
        config = make_config(env="breakout", seed=seed, imitate={"num_envs": lanes})
        return Player(config, get_preset("sb3"), teacher, CPU, first)

    return make


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_the_same_seed_plays_the_same_and_later_games_are_others(start: Make, student: Policy) -> None:
    with start() as one, start() as two, start(first=2) as later:
        first, second, third = (player.play(student, 20, 0.5).rows for player in (one, two, later))
    assert all(map(same, first, second))
    assert not any(map(same, first, third))


def test_labels_are_the_teachers_and_actions_those_of_whoever_plays(
    start: Make, student: Policy, teacher: Teacher
) -> None:
    with start(lanes=2) as player:
        player._lot[:] = (0.2, 0.8)
        obs = player.teacher_obs().copy()
        (row,) = player.play(student, 1, 0.5).rows
        games = player.games
    with torch.no_grad():
        logits, value = teacher.logits_and_value(torch.from_numpy(obs) / 255)
    np.testing.assert_allclose(row.logits, logits.numpy(), atol=1e-4)
    assert value is not None
    np.testing.assert_allclose(row.value, value.numpy(), atol=1e-4)
    np.testing.assert_array_equal(row.student, student.logits(obs).numpy())
    assert games.next_episode == 2


def test_the_teacher_plays_well_and_a_fresh_student_badly(start: Make, student: Policy) -> None:
    """Only games that the student played alone count as its own."""
    with start(lanes=2) as player:
        player._lot[:] = (0.0, 1.0)
        played = player.play(student, 500, 0.5)
    games, points = played.games, sum(row.reward[0] for row in played.rows)
    assert len(games) >= 1
    assert {game.lane for game in games} == {1}
    assert games[0].score < 8
    assert points > 12


def test_a_game_that_the_teacher_began_is_not_the_students(start: Make, student: Policy) -> None:
    with start(lanes=1) as player:
        player._lot[:] = 0.5
        player.play(student, 1, 0.6)  # the teacher plays the first step
        ended: list[Any] = []
        while player.games.next_episode < 3:
            ended += player.play(student, 50, 0.0).games
    assert [game.lane for game in ended] == [0]  # of two games that ended, the second


def test_a_damaged_teacher_is_named(start: Make, student: Policy, teacher: Teacher) -> None:
    with start() as player:
        player.teacher.net.policy.bias.data[0] = float("nan")
        player.teacher = Policy(player.teacher.net, CPU)
        with pytest.raises(UserError, match="teacher breakout gives NaN or infinite logits"):
            player.play(student, 1, 0.5)


def test_its_games_are_no_recorded_ones() -> None:
    ours, theirs = Games(1, "imitate", 4), Games(1, "teacher", 4)
    assert not set(ours.start()) & set(theirs.start())
