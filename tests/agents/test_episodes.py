"""Whole games of Breakout by agents that lose them soon."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from distill.agents.actor import Policy
from distill.agents.episodes import Match, play
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import get_preset
from distill.envs.protocols import get_protocol
from distill.envs.step import Game, Step
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec

CPU = torch.device("cpu")
LEFT = 3


def lazy(seed: int = 0, hidden: int = 8) -> AtariCNN:
    """A fresh network: nearly uniform, LEFT a little likelier, so that greedily it does nothing else."""
    torch.manual_seed(seed)
    net = AtariCNN(NetSpec(((4, 8, 4),), (hidden,)), 4)
    with torch.no_grad():
        net.policy.bias[LEFT] = 0.2
    return net


def games(net: AtariCNN, protocol: str = "zoo-greedy", **changes: Any) -> list[Game]:
    settings = {"games": 4, "num_envs": 2, "seed": 1, **changes}
    return play(Match(net, "breakout", get_preset("sb3"), get_protocol(protocol), CPU), **settings)


@dataclass
class Log:
    """What the emulator was asked and answered."""

    actions: list[Any] = field(default_factory=list)
    steps: dict[int, list[Step]] = field(default_factory=dict)
    """Of each environment, in the order they were made."""
    sticky: set[float] = field(default_factory=set)
    observations: dict[Policy, list[Any]] = field(default_factory=dict)
    """What each half's policy saw."""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Everything real, overheard."""
    log, send, recv, logits = Log(), AtariVec.send, AtariVec.recv, Policy.logits

    def sent(env: AtariVec, actions: Any) -> None:
        if env._started:
            log.sticky.add(env.sticky)
            if id(env) in log.steps:  # not the script that opens the first game
                log.actions += actions[env._acting].tolist()
        send(env, actions)

    def received(env: AtariVec) -> Step:
        result = recv(env)
        log.steps.setdefault(id(env), []).append(copy.copy(result))
        return result

    def seen(policy: Policy, obs: Any) -> torch.Tensor:
        log.observations.setdefault(policy, []).append(obs.copy())
        return logits(policy, obs)

    monkeypatch.setattr(AtariVec, "send", sent)
    monkeypatch.setattr(AtariVec, "recv", received)
    monkeypatch.setattr(Policy, "logits", seen)
    return log


def test_every_lane_plays_its_share_of_whole_games(log: Log) -> None:
    told: list[Game] = []
    played = games(lazy(), "zoo", on_game=told.append)
    assert [game.lane for game in played] == [0, 0, 1, 1]
    assert sorted(map(id, told)) == sorted(map(id, played))
    assert not any(game.truncated for game in played)
    halves = sorted(log.steps.values(), key=len)
    lengths = [sum(game.length for game in played if game.lane == lane) for lane in range(2)]
    for lane, steps in zip(np.argsort(lengths), halves, strict=True):
        over = [index for index, step in enumerate(steps) if step.terminated[0]]
        mine = [game for game in played if game.lane == lane]
        assert sum(game.length for game in mine) == over[1] + 1
        rewards = [float(step.reward[0]) for step in steps]
        assert mine[0].score == sum(rewards[: over[0] + 1])
        assert mine[1].score == sum(rewards[over[0] + 1 : over[1] + 1])
        lost = [index for index, step in enumerate(steps) if step.life_lost[0]]
        assert sum(index < over[0] for index in lost) == 4  # of five lives; the last one ends the game


def test_greedy_takes_the_best_action(log: Log) -> None:
    games(lazy(), "zoo-greedy", games=1, num_envs=1)
    assert set(log.actions) == {LEFT}
    assert log.sticky == {0.0}


@pytest.mark.parametrize(("protocol", "sticky"), [("zoo", 0.0), ("machado", 0.25)])
def test_sampled_follows_the_policy(log: Log, protocol: str, sticky: float) -> None:
    games(lazy(), protocol, games=1, num_envs=1)
    shares = np.bincount(log.actions, minlength=4) / len(log.actions)
    np.testing.assert_allclose(shares, lazy()(torch.zeros(1, 4, 84, 84)).softmax(-1)[0].detach(), atol=0.13)
    assert log.sticky == {sticky}


def test_same_seed_same_games() -> None:
    once = games(lazy(), "machado", games=2, num_envs=1)
    assert games(lazy(), "machado", games=2, num_envs=1) == once
    assert games(lazy(), "machado", games=2, num_envs=1, seed=2) != once


def test_agents_with_the_same_seed_start_the_same_games(log: Log) -> None:
    def starts(net: AtariCNN, seed: int) -> Any:
        log.observations.clear()
        games(net, games=2, seed=seed)
        first = [seen[0] for seen in log.observations.values()]  # one lane is in each half
        return np.concatenate(sorted(first, key=np.ndarray.tobytes))

    teacher, student = starts(lazy(0), 1), starts(lazy(5, hidden=16), 1)
    assert teacher.shape == (2, 4, 84, 84)
    assert np.array_equal(teacher, student)
    assert not np.array_equal(teacher, starts(lazy(0), 9))
    assert not np.array_equal(teacher[0], teacher[1])


def test_no_more_lanes_than_games(log: Log) -> None:
    played = games(lazy(), games=2, num_envs=8)
    assert [game.lane for game in played] == [0, 1]
    assert [len(seen[0]) for seen in log.observations.values()] == [1, 1]


def test_further_games_of_a_lane_that_is_done_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane waits for the slowest one; were its further games counted, short games would win."""
    recv = AtariVec.recv
    ended: dict[int, list[Game]] = {}

    def with_another_game(env: AtariVec) -> Step:
        result, before = recv(env), ended.setdefault(id(env), [])
        result.games.extend(replace(game, score=999.0) for game in before)
        before.extend(game for game in result.games if game.score < 999)
        return result

    monkeypatch.setattr(AtariVec, "recv", with_another_game)
    played = games(lazy(), "zoo", games=2)
    first, second = sorted((lane[0] for lane in ended.values()), key=lambda game: game.length)
    assert sorted((replace(game, lane=0) for game in played), key=lambda game: game.length) == [first, second]
    assert first.length != second.length


def test_a_lane_that_is_done_waits_for_its_neighbours(log: Log) -> None:
    """Lanes of one half end their games at different times; what the others do meanwhile does not count."""
    played = games(lazy(), "zoo", games=4, num_envs=4)
    assert [game.lane for game in played] == [0, 1, 2, 3]
    longest = [max(game.length for game in half) for half in (played[:2], played[2:])]
    assert sorted(len(steps) for steps in log.steps.values()) == sorted(longest)


def test_a_failure_in_one_half_stops_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Ctrl-C would wait for whole games."""
    step, steps = AtariVec.step, {}

    def failing(env: AtariVec, actions: Any) -> Step:
        done = step(env, actions)
        if env._started and not done.fresh.all():
            steps[env] = steps.get(env, 0) + 1
        if steps.get(env) == 20 and env is min(steps, key=id):
            raise OSError("the emulator is gone")
        return done

    monkeypatch.setattr(AtariVec, "step", failing)
    with pytest.raises(OSError, match="the emulator is gone"):
        games(lazy(), "zoo")
    assert max(steps.values()) < 200


def test_lanes_play_equally_many() -> None:
    with pytest.raises(UserError, match="5 games cannot be played by 2 lanes, as many by each; ask for a multiple"):
        games(lazy(), games=5)
