"""``AtariVec`` as a stable-baselines3 ``VecEnv``, so that any SB3 algorithm can train on it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from distill.envs.ale_vec import MAX_LANES, AtariVec, UInt8Array
from distill.envs.presets import Preset
from distill.envs.step import Game, Step
from distill.errors import UserError
from distill.system.streams import Stream, numbered

Indices = int | Iterable[int] | None
Result = tuple[UInt8Array, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]
NOTHING = np.zeros(1, np.int64)
"""For a lane whose script plays."""


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
    All emulators run at once, in threads of their own; frames of the lanes that are done are prepared meanwhile.

    Args:
        game: canonical game name.
        num_envs: number of lanes.
        preset: what the agent sees.
        seed: lane i is seeded with ``seed + i``, unless ``seed()`` says otherwise before ``reset()``.
        sticky: probability that the emulator repeats the previous action.
        clip_reward: give the learner the sign of each reward.
        second: another preset, whose stacks of the same screens are kept as well (``second_obs``).

    Raises:
        UserError: an argument that would hang or crash the emulator, or a second preset that needs other screens.
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
        second: Preset | None = None,
    ) -> None:
        if not 1 <= num_envs <= MAX_LANES:
            raise UserError(f"num_envs must be between 1 and {MAX_LANES}, got {num_envs}")
        self._lanes = [AtariVec(game, 1, preset, sticky=sticky, second=second) for _ in range(num_envs)]
        self._clip, self._frame_skip, self._start = clip_reward, preset.frame_skip, time.monotonic()
        shape = (preset.frame_stack, preset.frame_size, preset.frame_size)
        self._obs = np.zeros((num_envs, *shape), np.uint8)
        self.second_obs = None if second is None else np.zeros_like(self._obs)
        """What an agent of the second preset sees now, uint8 (N, 4, 84, 84); every step makes a new array."""
        actions = gym.spaces.Discrete(self._lanes[0].num_actions)
        super().__init__(num_envs, gym.spaces.Box(0, 255, shape, np.uint8), actions)
        self._rng = numbered(Stream.LANES, seed)
        self.seed(seed)

    def reset(self) -> UInt8Array:
        """Start a new game in every lane; uint8 (N, frame_stack, 84, 84)."""
        seeds = [int(self._rng.integers(2**31 - 1)) if seed is None else seed % (2**31 - 1) for seed in self._seeds]
        self._obs = np.concatenate([lane.reset(seed) for lane, seed in zip(self._lanes, seeds, strict=True)])
        self._reset_seeds()
        self._look()
        return self._obs

    def step_async(self, actions: npt.NDArray[np.integer[Any]]) -> None:
        """Start every lane's emulator."""
        actions = np.asarray(actions).reshape(self.num_envs, 1)
        for lane, action in zip(self._lanes, actions, strict=True):
            lane.send(action)

    def step_wait(self) -> Result:
        """Wait for the lanes in turn; one that has a script to play goes to the end of the queue."""
        before, self._obs = self._obs, np.empty_like(self._obs)
        rewards, dones = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, np.bool_)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        running = deque(range(self.num_envs))
        while running:
            index = running.popleft()
            step = self._lanes[index].recv()
            if not infos[index]:  # what the learner's own action gave, not the script
                rewards[index] = np.sign(step.reward[0]) if self._clip else step.reward[0]
                infos[index], dones[index] = self._outcome(step, before[index])
            if step.games:
                infos[index]["episode"] = self._episode(step.games[-1])
            if step.acting[0]:
                self._obs[index] = step.obs[0]
            else:
                self._lanes[index].send(NOTHING)
                running.append(index)
        self._look()
        return self._obs, rewards, dones, infos

    def _look(self) -> None:
        """Take over what an agent of the second preset sees; all lanes wait for actions."""
        if self.second_obs is not None:
            stacks = [lane.second_obs for lane in self._lanes]
            self.second_obs = np.concatenate([stack for stack in stacks if stack is not None])

    @staticmethod
    def _outcome(step: Step, before: UInt8Array) -> tuple[dict[str, Any], bool]:
        """The info of a transition, and whether it ends a return."""
        game_over = bool(step.terminated[0] or step.truncated[0])
        done = game_over or bool(step.life_lost[0])
        info: dict[str, Any] = {"TimeLimit.truncated": bool(step.truncated[0])}
        if done:
            info["terminal_observation"] = before if game_over else step.obs[0].copy()
        return info, done

    def _episode(self, game: Game) -> dict[str, float]:
        return {"r": game.score, "l": game.length * self._frame_skip, "t": round(time.monotonic() - self._start, 6)}

    def close(self) -> None:
        """Free the emulators."""
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
