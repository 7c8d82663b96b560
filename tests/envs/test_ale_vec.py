from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Literal

import ale_py
import cv2
import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from ale_py import roms
from stable_baselines3.common.atari_wrappers import AtariWrapper

from distill.envs import emulators
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import Preset, get_preset
from distill.envs.step import Step
from distill.errors import UserError
from tests.envs.reference import Emulator, compare, differences

SB3 = get_preset("sb3")
gym.register_envs(ale_py)


@pytest.mark.parametrize(
    ("game", "steps", "lives", "games"),
    [
        pytest.param("breakout", 600, 20, 4, id="breakout: five lives, FIRE"),
        pytest.param("pong", 1000, 0, 1, id="pong: no lives, overlapping colours"),
        pytest.param("asterix", 600, 8, 2, id="asterix: lives, no FIRE"),
        pytest.param("pooyan", 600, 1, 0, id="pooyan: 220 lines, plays a frame by itself at the start"),
        pytest.param("carnival", 300, 0, 0, id="carnival: 214 lines"),
        pytest.param("hero", 700, 6, 1, id="hero: memory survives a reset"),
    ],
)
def test_sb3_preset_equals_stable_baselines3(game: str, steps: int, lives: int, games: int) -> None:
    count = compare(game, 2, steps, seed=1)
    assert differences(count) == {}
    assert count["steps"] > 1.8 * steps
    assert count["lives"] >= lives
    assert count["games"] >= games


@pytest.mark.parametrize(("max_frames", "in_script"), [(301, False), (400, False), ("noop", True), ("fire", True)])
def test_frame_limit_equals_stable_baselines3(max_frames: int | Literal["noop", "fire"], in_script: bool) -> None:
    if isinstance(max_frames, str):  # let the limit strike in the script after the first life loss
        steps = _steps_to_first_life_loss(replace(SB3, noop_max=1), seed=3)
        max_frames = 4 * (steps + {"noop": 1, "fire": 2}[max_frames])
    # SB3 counts no-ops towards the limit and we do not: one no-op makes the difference a constant.
    preset = replace(SB3, noop_max=1, max_frames=max_frames)
    count = compare("breakout", 1, 250, 3, preset, max_num_frames_per_episode=max_frames + 1)
    assert differences(count) == {}
    assert count["truncated"] >= 2
    assert (count["ends inside a script"] > 0) == in_script


def _steps_to_first_life_loss(preset: Preset, seed: int) -> int:
    rng = np.random.default_rng(seed)
    with AtariVec("breakout", 1, preset) as vec:
        vec.reset(seed)
        for _ in range(200):
            step = vec.step(rng.integers(vec.num_actions, size=1))
            if step.life_lost[0]:
                return int(vec._length[0])
    raise AssertionError("no life was lost in 200 random steps of breakout")


class Timeline:
    """A game in which something happens every few steps, whatever is played: for what real games do not do."""

    def __init__(self, events: list[str]) -> None:
        self.events, self.lives, self.played = iter(events), 5, list[int]()

    def play(self, action: int) -> bool:
        """True when the game ends."""
        self.played.append(action)
        event = next(self.events)
        over = event == "end" or (event == "life" and self.lives == 0)  # a game may go on for a while without lives
        self.lives = max(0, self.lives - (event == "life"))
        return over


class VectorTimeline:
    """A timeline in the shape of ALE's vector env with one lane."""

    def __init__(self, events: list[str]) -> None:
        self.timeline, self.frame = Timeline(events), np.zeros((1, 1, 210, 160, 3), np.uint8)

    def reset(self, **_: Any) -> tuple[Any, ...]:
        return self.frame, {"lives": np.array([5]), "episode_frame_number": np.array([1])}

    def send(self, actions: npt.NDArray[np.int64]) -> None:
        self.actions = actions

    def recv(self) -> tuple[Any, ...]:
        over = np.array([self.timeline.play(int(self.actions[0]))])
        self.timeline.lives = 5 if over[0] else self.timeline.lives
        info = {"lives": np.array([self.timeline.lives]), "episode_frame_number": np.array([1])}
        return self.frame, np.ones(1), over, np.zeros(1, bool), info


class GymTimeline(gym.Env[npt.NDArray[np.uint8], int]):
    """The same timeline for SB3's wrappers."""

    def __init__(self, events: list[str], meanings: tuple[str, ...]) -> None:
        self.timeline, self.meanings = Timeline(events), meanings
        self.observation_space = gym.spaces.Box(0, 255, (210, 160, 3), np.uint8)
        self.action_space = gym.spaces.Discrete(len(meanings))
        self.ale = self

    def get_action_meanings(self) -> tuple[str, ...]:
        return self.meanings

    def lives(self) -> int:
        return self.timeline.lives

    def reset(self, **_: Any) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        self.timeline.lives = 5
        return np.zeros((210, 160, 3), np.uint8), {}

    def step(self, action: int) -> tuple[npt.NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        over = self.timeline.play(int(action))
        return np.zeros((210, 160, 3), np.uint8), 1.0, over, False, {}


@pytest.mark.parametrize("game", ["breakout", "asterix"])
def test_lives_lost_and_games_ended_inside_scripts_play_what_stable_baselines3_plays(game: str) -> None:
    rng = np.random.default_rng(0)
    events = rng.choice(["", "life", "end"], p=[0.6, 0.3, 0.1], size=4000).tolist()
    vec = AtariVec(game, 1, SB3)
    vec._ale = fake = VectorTimeline(events)
    inner = GymTimeline(events, vec.info.actions)
    theirs = AtariWrapper(inner, noop_max=0, frame_skip=1, clip_reward=False)
    vec.reset(0)
    theirs.reset()
    in_script = 0
    for _ in range(500):
        action = int(rng.integers(vec.num_actions))
        step = vec.step(np.array([action]))
        done = bool(step.terminated[0] or step.life_lost[0])
        while not step.acting[0]:
            step = vec.step(np.array([action]))
            in_script += bool(step.terminated[0] or step.life_lost[0])
        _, _, terminated, _, _ = theirs.step(action)
        assert terminated == done
        if terminated:
            theirs.reset()
        assert fake.timeline.played == inner.timeline.played
    assert in_script > 50


def test_fast_preset_is_the_maximum_of_two_gray_frames() -> None:
    rng = np.random.default_rng(0)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path("pong"))
    with AtariVec("pong", 1, get_preset("sb3-fast")) as vec:
        emulator = Emulator(vec)
        vec.reset(0)
        ale.reset_game()
        for action in [0] * int(emulator.noops[0]) + [1] * 4 + [2] * 4:
            ale.act(ale.getMinimalActionSet()[action])
        for _ in range(100):
            action = int(rng.integers(vec.num_actions))
            step = vec.step(np.array([action]))
            screens = []
            for _ in range(4):
                ale.act(ale.getMinimalActionSet()[action])
                screens.append(ale.getScreenGrayscale())
            expected = cv2.resize(np.maximum(screens[2], screens[3]), (84, 84), interpolation=cv2.INTER_AREA)
            np.testing.assert_array_equal(step.obs[0, -1], expected)


@pytest.mark.parametrize(("game", "differs"), [("breakout", False), ("space_invaders", False), ("pong", True)])
def test_fast_preset_differs_only_where_colours_overlap(game: str, differs: bool) -> None:
    exact = _play(AtariVec(game, 2, SB3), 150)
    fast = _play(AtariVec(game, 2, get_preset("sb3-fast")), 150)
    gap = np.array([np.abs(a.obs.astype(int) - b.obs).max() for a, b in zip(exact, fast, strict=True)])
    assert gap.any() == differs
    assert gap.max() <= 16
    assert all(np.array_equal(a.reward, b.reward) for a, b in zip(exact, fast, strict=True))


def _play(vec: AtariVec, steps: int, seed: int = 5) -> list[Step]:
    rng = np.random.default_rng(0)
    with vec:
        vec.reset(seed)
        actions = rng.integers(vec.num_actions, size=(steps, vec.num_envs))
        return [replace(step, obs=step.obs.copy()) for step in map(vec.step, actions)]


def _equal(a: list[Step], b: list[Step]) -> bool:
    return all(
        np.array_equal(x.obs, y.obs) and np.array_equal(x.reward, y.reward) and x.games == y.games
        for x, y in zip(a, b, strict=True)
    )


def test_a_seed_decides_everything_but_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    first = _play(AtariVec("breakout", 4, SB3, sticky=0.25), 120)
    assert not _equal(first, _play(AtariVec("breakout", 4, SB3, sticky=0.25), 120, seed=6))
    monkeypatch.setattr(emulators, "GROUPS", 1)  # all lanes in one vector environment, with threads of its own
    assert _equal(first, _play(AtariVec("breakout", 4, SB3, sticky=0.25), 120))


@pytest.mark.parametrize("game", ["asterix", "pooyan"])
def test_every_game_starts_with_1_to_30_noops(game: str) -> None:
    # With a limit of four frames every step ends a game. Pooyan plays a frame of its own before the no-ops.
    with AtariVec(game, 8, replace(SB3, max_frames=4)) as vec:
        emulator = Emulator(vec)
        vec.reset(0)
        drawn = Counter(emulator.noops.tolist())
        for _ in range(50):
            assert vec.step(np.zeros(8, np.int64)).truncated.all()
            drawn.update(emulator.noops.tolist())
    assert sorted(drawn) == list(range(1, 31))
    assert max(drawn.values()) < 6 * min(drawn.values())


def test_game_counts_every_reward_and_step() -> None:
    score, length, games = np.zeros(2), np.zeros(2, int), 0
    with AtariVec("breakout", 2, SB3) as vec:
        vec.reset(1)
        length += 2  # FIRE and action 2
        for _ in range(500):
            step = vec.step(np.random.default_rng(games).integers(4, size=2))
            score += step.reward
            length += 1
            for game in step.games:
                assert (game.score, game.length, game.truncated) == (score[game.lane], length[game.lane], False)
                score[game.lane] = length[game.lane] = 0
                games += 1
    assert games >= 2


def test_a_game_that_ends_at_the_frame_limit_has_ended_by_itself() -> None:
    """Gymnasium lets an environment report both at once; a learner would then count on rewards that never come."""
    with AtariVec("breakout", 1, SB3) as vec:
        emulator = Emulator(vec)
        real = emulator.recv

        def both() -> tuple[Any, ...]:
            frames, reward, terminated, truncated, info = real()
            return frames, reward, terminated, truncated | terminated, info

        emulator.recv = both  # type: ignore[method-assign]
        vec.reset(3)
        step = vec.step(np.zeros(1, np.int64))
        while not step.games:
            step = vec.step(np.full(1, 2))
    assert step.terminated.tolist() == [True]
    assert step.truncated.tolist() == [False]
    assert not step.games[0].truncated


@pytest.mark.parametrize(("game", "script"), [("breakout", 3), ("asterix", 1)])
def test_stack_restarts_when_the_script_after_a_life_loss_is_over(game: str, script: int) -> None:
    rng = np.random.default_rng(0)
    with AtariVec(game, 1, SB3) as vec:
        assert not vec.reset(0)[0, :-1].any()
        lost = 0
        while lost < 2:
            step = vec.step(rng.integers(vec.num_actions, size=1))
            assert step.acting[0] != step.life_lost[0]
            assert not step.fresh[0]
            if step.life_lost[0]:
                lost += 1
                rows = [vec.step(np.zeros(1, np.int64)) for _ in range(script - 1)]
                assert not any(row.acting[0] or row.fresh[0] for row in rows)
                step = vec.step(np.zeros(1, np.int64))
                assert step.acting[0]
                assert step.fresh[0]
                assert not step.obs[0, :-1].any()
                assert step.obs[0, -1].any()


@pytest.mark.parametrize("actions", [[4, 0], [-1, 0], [0], [[0, 0]], [0, 0, 0], [0.0, 1.0], [2**40, 0]])
def test_actions_that_would_hang_the_emulator_raise(actions: list[Any]) -> None:
    with AtariVec("breakout", 2, SB3) as vec:
        vec.reset(0)
        with pytest.raises(ValueError, match="actions must"):
            vec.step(np.array(actions))
        vec.step(np.array([0, 3]))  # and the environment goes on


@pytest.mark.parametrize("seed", [-1, 2**31 - 2, 2**40])
def test_seeds_the_emulator_would_not_honour_raise(seed: int) -> None:
    with AtariVec("asterix", 2, SB3) as vec, pytest.raises(UserError, match="seed must be between 0 and 2147483645"):
        vec.reset(seed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs must be between 1 and 1024, got 0"),
        ({"num_envs": -3}, "num_envs must be"),
        ({"num_envs": 1025}, "num_envs must be"),
        ({"sticky": 1.0}, "sticky action probability"),
        ({"sticky": -0.1}, "sticky action probability"),
        ({"game": "backgammon"}, "backgammon has no NOOP action"),
    ],
)
def test_arguments_that_would_crash_the_emulator_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AtariVec(**({"game": "pong", "num_envs": 1, "preset": SB3} | arguments))


def test_step_needs_an_open_environment_that_was_reset() -> None:
    vec = AtariVec("pong", 1, SB3)
    with pytest.raises(RuntimeError, match="call reset"):
        vec.step(np.zeros(1, np.int64))
    vec.reset(0)
    vec.close()
    vec.close()
    with pytest.raises(RuntimeError, match="open environment"):
        vec.step(np.zeros(1, np.int64))
    with pytest.raises(RuntimeError, match="closed"):
        vec.reset(0)


def played(num_envs: int, steps: int, sticky: float) -> dict[int, dict[int, bytes]]:
    """Stacks of every game by its seed (100, 101, ...) and clock, under actions that depend on these two alone."""
    owner: dict[int, int] = {}
    games: dict[int, dict[int, bytes]] = {}

    def next_seed(lane: int) -> int:
        owner[lane] = 100 + len(games)
        games[owner[lane]] = {}
        return owner[lane]

    with AtariVec("breakout", num_envs, SB3, sticky=sticky, next_seed=next_seed) as env:
        obs = env.reset([next_seed(lane) for lane in range(num_envs)])
        for _ in range(steps):
            seeds, clock = np.array([owner[lane] for lane in range(num_envs)]), env.played
            for lane, seed in enumerate(seeds.tolist()):
                games[seed][int(clock[lane])] = obs[lane].tobytes()
            obs = env.step((clock // 7 + seeds) % 4).obs
    return games


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_a_game_with_a_seed_of_its_own_does_not_depend_on_those_before(sticky: float) -> None:
    one, three = played(1, 900, sticky), played(3, 450, sticky)
    later = [seed for seed in one if seed > 102 and seed in three]
    assert len(later) >= 1
    compared = 0
    for seed in one.keys() & three.keys():
        shared = [clock for clock in one[seed].keys() & three[seed].keys() if clock > 2]
        assert all(one[seed][clock] == three[seed][clock] for clock in shared)
        compared += len(shared)
    assert compared > 200


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3], [1, -1], [1, 2**31 - 1]])
def test_seeds_of_lanes_are_checked(seeds: list[int]) -> None:
    with AtariVec("pong", 2, SB3) as vec, pytest.raises(UserError, match="seed"):
        vec.reset(seeds)
