"""``AtariVec`` as a stable-baselines3 ``VecEnv``, so that any SB3 algorithm can train on it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from distill.envs.ale_vec import MAX_LANES, AtariVec, Game, UInt8Array
from distill.envs.presets import Preset
from distill.errors import UserError

Indices = int | Iterable[int] | None
LaneStep = tuple[UInt8Array, float, bool, dict[str, Any]]


class AtariVecSB3(VecEnv):
    """What SB3's ``make_atari_env`` and ``VecFrameStack`` show a learner, from ALE's C++ environments.

    Observations are uint8 (N, frame_stack, 84, 84), channels first; rewards are clipped to their sign; a lost life
    ends the return, but not the game. When a *game* ends, ``info["episode"]`` holds ``r``, its whole unclipped
    score, ``l``, its length in emulator frames, and ``t``, seconds since the start, as from SB3's ``Monitor``.
    ``info["terminal_observation"]`` is the last stack of a life; of a game, the last but one, because ALE has by then
    replaced the last one (only the value of a game cut off by the frame limit is ever computed from it).

    Every lane is an ``AtariVec`` of its own: after a lost life a lane must play a few scripted actions before the
    learner may act again, and in one lock-step environment the other lanes would have to make up actions meanwhile.
    Here a lane plays its script alone, inside ``step``, so that every transition the learner sees is one it chose.
    The price is about half the speed of a lock-step ``AtariVec``; learning takes longer than playing.

    Args:
        game: canonical game name.
        num_envs: number of lanes.
        preset: what the agent sees.
        seed: lane i is seeded with ``seed + i``, unless ``seed()`` says otherwise before ``reset()``.
        sticky: probability that the emulator repeats the previous action.
        clip_reward: give the learner the sign of each reward.

    Raises:
        UserError: an argument that would hang or crash the emulator.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        preset: Preset,
        *,
        seed: int,
        sticky: float = 0.0,
        clip_reward: bool = True,
    ) -> None:
        if not 1 <= num_envs <= MAX_LANES:
            raise UserError(f"num_envs must be between 1 and {MAX_LANES}, got {num_envs}")
        self._lanes = [AtariVec(game, 1, preset, sticky=sticky, num_threads=1) for _ in range(num_envs)]
        self._pool = ThreadPoolExecutor(min(num_envs, os.cpu_count() or 1))
        self._clip, self._frame_skip, self._start = clip_reward, preset.frame_skip, time.monotonic()
        self._actions = np.zeros(num_envs, np.int64)
        shape = (preset.frame_stack, preset.frame_size, preset.frame_size)
        self._obs = np.zeros((num_envs, *shape), np.uint8)
        actions = gym.spaces.Discrete(self._lanes[0].num_actions)
        super().__init__(num_envs, gym.spaces.Box(0, 255, shape, np.uint8), actions)
        self._rng = np.random.default_rng(seed)
        self.seed(seed)

    def reset(self) -> UInt8Array:
        """Start a new game in every lane; uint8 (N, frame_stack, 84, 84)."""
        seeds = [int(self._rng.integers(2**31 - 1)) if seed is None else seed % (2**31 - 1) for seed in self._seeds]
        self._obs = np.concatenate([lane.reset(seed) for lane, seed in zip(self._lanes, seeds, strict=True)])
        self._reset_seeds()
        return self._obs

    def step_async(self, actions: npt.NDArray[np.integer[Any]]) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = np.asarray(actions).reshape(self.num_envs)

    def step_wait(self) -> tuple[UInt8Array, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Play the actions; lanes run in parallel."""
        steps = list(self._pool.map(self._play, range(self.num_envs)))
        obs, rewards, dones, infos = zip(*steps, strict=True)
        self._obs = np.concatenate(obs)
        return self._obs, np.array(rewards, np.float32), np.array(dones, np.bool_), list(infos)

    def _play(self, index: int) -> LaneStep:
        lane = self._lanes[index]
        step = lane.step(self._actions[index : index + 1])
        reward = float(np.sign(step.reward[0]) if self._clip else step.reward[0])
        game_over = bool(step.terminated[0] or step.truncated[0])
        done = game_over or bool(step.life_lost[0])
        info: dict[str, Any] = {"TimeLimit.truncated": bool(step.truncated[0])}
        if done:
            info["terminal_observation"] = self._obs[index] if game_over else step.obs[0].copy()
        games = step.games
        while not step.acting[0]:
            step = lane.step(self._actions[index : index + 1])  # the script plays, not this action
            games = games + step.games
        if games:
            info["episode"] = self._episode(games[-1])
        return step.obs.copy(), reward, done, info

    def _episode(self, game: Game) -> dict[str, float]:
        return {"r": game.score, "l": game.length * self._frame_skip, "t": round(time.monotonic() - self._start, 6)}

    def close(self) -> None:
        """Free the emulators and threads."""
        self._pool.shutdown()
        for lane in self._lanes:
            lane.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Attribute of each lane's ``AtariVec``; ``render_mode`` is None: pictures come from the recorder."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        return [getattr(self._lanes[index], attr_name) for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Lanes are configured at construction only."""
        raise AttributeError(f"cannot set {attr_name}: make a new AtariVecSB3 instead")

    def env_method(self, method_name: str, *args: Any, indices: Indices = None, **kwargs: Any) -> list[Any]:
        """Call a method of each lane's ``AtariVec``."""
        return [getattr(self._lanes[index], method_name)(*args, **kwargs) for index in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """True for ``Monitor``: its ``info["episode"]`` is there, so ``evaluate_policy`` counts whole games."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]
