"""The same games behind other libraries' wrappers, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import ale_py
import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.atari_wrappers import (
    ClipRewardEnv,
    EpisodicLifeEnv,
    FireResetEnv,
    MaxAndSkipEnv,
    NoopResetEnv,
)
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from distill.envs.ale_vec import AtariVec
from distill.envs.games import env_id
from distill.envs.presets import Preset, get_preset

SB3 = get_preset("sb3")
gym.register_envs(ale_py)


class Emulator:
    """ALE's vector env, noting how each lane's latest game was started: resets (two or more where no-ops were
    drawn again; some games keep memory across a reset) and no-ops after the last of them.
    """

    def __init__(self, vec: AtariVec) -> None:
        self.ale, self.start_frames = vec._ale, vec.info.start_frames
        self.noops = np.zeros(vec.num_envs, np.int64)
        self.resets = np.zeros(vec.num_envs, np.int64)
        vec._ale = self

    def reset(self, **kwargs: Any) -> tuple[Any, ...]:
        obs, info = self.ale.reset(**kwargs)
        mask = kwargs.get("options", {}).get("reset_mask", np.ones(len(obs), bool))
        self.resets[mask] += 1
        self.noops[mask] = info["episode_frame_number"][mask] - self.start_frames
        return obs, info

    def send(self, actions: npt.NDArray[np.int64]) -> None:
        self.ale.send(actions)

    def recv(self) -> tuple[Any, ...]:
        result = self.ale.recv()
        over = result[2] | result[3]
        self.resets[over] = 1
        self.noops[over] = result[4]["episode_frame_number"][over] - self.start_frames
        return result  # type: ignore[no-any-return]

    def close(self) -> None:
        self.ale.close()


class Start:
    """Begins the games of an environment the way ``Emulator`` saw."""

    def __init__(self, env: Any) -> None:
        while not isinstance(env, NoopResetEnv):
            env = env.env
        self._noop_reset: Any = env
        self._resets = 1
        atari: Any = env.unwrapped
        reset_once = atari.reset
        atari.reset = lambda **kwargs: [reset_once(**kwargs) for _ in range(self._resets)][-1]

    def like(self, emulator: Emulator, lane: int) -> None:
        """The next game."""
        self._resets = int(emulator.resets[lane])
        self._noop_reset.override_num_noops = int(emulator.noops[lane])


class Lane(Protocol):
    """One game of a reference."""

    start: Start

    def reset(self) -> npt.NDArray[np.uint8]: ...

    def step(self, action: int) -> tuple[npt.NDArray[np.uint8], float, bool, bool]:
        """Stack, reward, done, truncated; after a done step the stack of the reset."""

    def scores(self) -> list[float]:
        """Returns of whole games."""

    def seen(self, reward: float) -> float:
        """What the agent gets of a raw reward."""


class Sb3Lane:
    """stable-baselines3's ``make_atari_env`` and ``VecFrameStack``."""

    def __init__(self, game: str, **env_kwargs: Any) -> None:
        env = make_atari_env(env_id(game), wrapper_kwargs={"clip_reward": False}, env_kwargs=env_kwargs)
        self.vec = VecFrameStack(env, 4)
        self.start = Start(env.envs[0])  # type: ignore[attr-defined]

    def seen(self, reward: float) -> float:
        return reward

    def reset(self) -> npt.NDArray[np.uint8]:
        return np.moveaxis(self.vec.reset()[0], -1, 0)  # type: ignore[index]

    def step(self, action: int) -> tuple[npt.NDArray[np.uint8], float, bool, bool]:
        obs, reward, done, infos = self.vec.step([action])  # type: ignore[arg-type]
        stack = np.moveaxis(obs[0], -1, 0)  # type: ignore[index]
        return stack, float(reward[0]), bool(done[0]), infos[0]["TimeLimit.truncated"]

    def scores(self) -> list[float]:
        return list(self.vec.env_method("get_episode_rewards")[0])


class CleanrlLane:
    """The wrappers of CleanRL's ppo_atari, dqn_atari and c51_atari.

    Args:
        game: canonical game name.
        gray: its GrayscaleObservation.
    """

    def __init__(self, game: str, gray: Callable[[Any], Any]) -> None:
        env: Any = gym.wrappers.RecordEpisodeStatistics(gym.make(env_id(game)))
        env = EpisodicLifeEnv(MaxAndSkipEnv(NoopResetEnv(env, noop_max=30), skip=4))
        if "FIRE" in env.unwrapped.get_action_meanings():
            env = FireResetEnv(env)
        env = gray(gym.wrappers.ResizeObservation(ClipRewardEnv(env), (84, 84)))
        self.env: Any = gym.wrappers.FrameStackObservation(env, 4)
        self.start, self._scores = Start(env), list[float]()

    def reset(self) -> npt.NDArray[np.uint8]:
        return self.env.reset()[0]  # type: ignore[no-any-return]

    def step(self, action: int) -> tuple[npt.NDArray[np.uint8], float, bool, bool]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        if "episode" in info:
            self._scores.append(float(info["episode"]["r"]))
        return self.reset() if terminated or truncated else obs, float(reward), terminated or truncated, truncated

    def scores(self) -> list[float]:
        return self._scores

    def seen(self, reward: float) -> float:
        return float(np.sign(reward))


def compare(
    game: str,
    num_envs: int,
    steps: int,
    seed: int,
    preset: Preset = SB3,
    make_lane: Callable[..., Lane] = Sb3Lane,
    **lane_settings: Any,
) -> Counter[str]:
    """Play the same random actions here and behind other wrappers; count what happened and what differs."""
    rng = np.random.default_rng(seed)
    count: Counter[str] = Counter()
    vec = AtariVec(game, num_envs, preset)
    emulator = Emulator(vec)
    obs = vec.reset(seed)
    lanes = [make_lane(game, **lane_settings) for _ in range(num_envs)]
    for lane, reference in enumerate(lanes):
        reference.start.like(emulator, lane)
        count["obs differ"] += not np.array_equal(reference.reset(), obs[lane])
    scores: list[list[float]] = [[] for _ in lanes]
    acting = np.ones(num_envs, bool)
    pending: dict[int, tuple[int, float, bool, bool]] = {}
    for _ in range(steps):
        actions = rng.integers(vec.num_actions, size=num_envs)
        step = vec.step(actions)
        over = step.terminated | step.truncated
        done = over | step.life_lost
        count["lives"] += int(step.life_lost.sum())
        count["games"] += int(over.sum())
        count["truncated"] += int(step.truncated.sum())
        count["ends inside a script"] += int((over & ~acting).sum())
        for finished in step.games:
            scores[finished.lane].append(finished.score)
        for lane in np.flatnonzero(acting):
            reward = lanes[lane].seen(float(step.reward[lane]))
            pending[lane] = int(actions[lane]), reward, bool(done[lane]), bool(step.truncated[lane])
        # Their reset plays the script; ours takes a few steps, after which the lane is comparable again.
        acting = step.acting.copy()
        for lane in np.flatnonzero(acting):
            action, *ours = pending.pop(lane)
            lanes[lane].start.like(emulator, int(lane))
            stack, *theirs = lanes[lane].step(action)
            count["steps"] += 1
            count["obs differ"] += not np.array_equal(stack, step.obs[lane])
            count["reward, done or truncated differ"] += ours != theirs
    vec.close()
    for lane in np.flatnonzero(acting):
        count["scores differ"] += lanes[lane].scores() != scores[lane]
    return count


def differences(count: Counter[str]) -> dict[str, int]:
    return {what: n for what, n in count.items() if "differ" in what and n}
