from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import ale_py  # registers the Gymnasium ids that make_atari_env needs
import numpy as np
import numpy.typing as npt
import pytest
from stable_baselines3.common.atari_wrappers import NoopResetEnv
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from distill.envs.ale_vec import AtariVec
from distill.envs.presets import get_preset
from distill.games import env_id

SB3 = get_preset("sb3")


class Emulator:
    """ALE's vector env, noting how many no-ops it played before each lane's latest game."""

    def __init__(self, ale: Any, start_frames: int) -> None:
        self.ale, self.start_frames = ale, start_frames
        self.noops = np.zeros(ale.num_envs, np.int64)

    def reset(self, **kwargs: Any) -> tuple[Any, ...]:
        obs, info = self.ale.reset(**kwargs)
        mask = kwargs.get("options", {}).get("reset_mask", np.ones(len(obs), bool))
        self.noops[mask] = info["episode_frame_number"][mask] - self.start_frames
        return obs, info

    def step(self, actions: npt.NDArray[np.int64]) -> tuple[Any, ...]:
        result = self.ale.step(actions)
        over = result[2] | result[3]
        self.noops[over] = result[4]["episode_frame_number"][over] - self.start_frames
        return result

    def close(self) -> None:
        self.ale.close()


class Sb3Lane:
    """One game behind stable-baselines3's own wrappers, its no-ops dictated."""

    def __init__(self, game: str, **env_kwargs: Any) -> None:
        self.vec = VecFrameStack(
            make_atari_env(env_id(game), 1, wrapper_kwargs={"clip_reward": False}, env_kwargs=env_kwargs), 4
        )
        self.noops = self.vec.unwrapped.envs[0]
        while not isinstance(self.noops, NoopResetEnv):
            self.noops = self.noops.env

    def reset(self, noops: int) -> npt.NDArray[np.uint8]:
        self.noops.override_num_noops = noops
        return np.moveaxis(self.vec.reset()[0], -1, 0)

    def step(self, action: int, noops: int) -> tuple[npt.NDArray[np.uint8], float, bool, bool]:
        """Stack, reward, done, truncated; ``noops`` are played if the game ends in this step."""
        self.noops.override_num_noops = noops
        obs, reward, done, infos = self.vec.step([action])
        return np.moveaxis(obs[0], -1, 0), float(reward[0]), bool(done[0]), infos[0]["TimeLimit.truncated"]

    def scores(self) -> list[float]:
        """Returns of whole games, as SB3's Monitor counts them."""
        return list(self.vec.env_method("get_episode_rewards")[0])


def compare(game: str, num_envs: int, steps: int, seed: int, held: int = 1, **env_kwargs: Any) -> Counter[str]:
    """Play the same random actions (each ``held`` steps long) here and there; count what happened and what differs."""
    rng = np.random.default_rng(seed)
    count: Counter[str] = Counter()
    vec = AtariVec(game, num_envs, SB3)
    vec._ale = emulator = Emulator(vec._ale, vec.info.start_frames)
    obs = vec.reset(seed)
    lanes = [Sb3Lane(game, **env_kwargs) for _ in range(num_envs)]
    for lane, reference in enumerate(lanes):
        count["obs differ"] += not np.array_equal(reference.reset(int(emulator.noops[lane])), obs[lane])
    scores: list[list[float]] = [[] for _ in lanes]
    acting = np.ones(num_envs, bool)
    opened: dict[int, tuple[int, float, bool, bool]] = {}
    for time in range(steps):
        if time % held == 0:
            actions = rng.integers(vec.num_actions, size=num_envs)
        step = vec.step(actions)
        over = step.terminated | step.truncated
        count["lives"] += int(step.life_lost.sum())
        count["games"] += len(step.games)
        count["scripted life losses"] += int((step.life_lost & ~acting).sum())
        count["scripted game ends"] += int((over & ~acting).sum())
        for finished in step.games:
            scores[finished.lane].append(finished.score)
        for lane in np.flatnonzero(acting):
            done = bool(over[lane] or step.life_lost[lane])
            opened[lane] = (int(actions[lane]), float(step.reward[lane]), done, bool(step.truncated[lane]))
        acting = step.acting.copy()
        for lane in np.flatnonzero(acting):
            action, reward, done, truncated = opened.pop(lane)
            expected = lanes[lane].step(action, int(emulator.noops[lane]))
            count["steps"] += 1
            count["obs differ"] += not np.array_equal(expected[0], step.obs[lane])
            count["reward differs"] += expected[1] != reward
            count["done differs"] += expected[2] != done
            count["truncated differs"] += expected[3] != truncated
    vec.close()
    for lane in np.flatnonzero(acting):
        count["score differs"] += lanes[lane].scores() != scores[lane]
    return count
