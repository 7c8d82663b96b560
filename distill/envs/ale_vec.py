"""A vector of Atari games that honours a preset, on top of ALE's C++ vector environment.

ALE's own vector env is fast but differs from stable-baselines3's wrappers in three ways that an
agent notices: it fires before its no-ops, it never fires after a life loss, and it converts to gray
before taking the maximum of two frames. So we ask it for raw steps and put SB3's behaviour on top
with a small queue of scripted actions per lane (docs/presets.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.envs.emulators import Emulators
from distill.envs.emulators import UInt8Array as UInt8Array
from distill.envs.frames import converter, put_newest
from distill.envs.games import game_info
from distill.envs.presets import Preset
from distill.envs.script import Script
from distill.envs.second_sight import SecondSight
from distill.envs.step import Game, Step
from distill.errors import UserError

MAX_LANES = 1024
MAX_SEED = 2**31 - 1


class AtariVec:
    """``num_envs`` games in lock-step ("lanes"), deterministic for a given seed.

    With preset ``sb3`` stacks, rewards, dones and scores equal those of stable-baselines3's ``make_atari_env``
    and ``VecFrameStack``, save that rewards during the opening no-ops are not counted (skiing and entombed have
    some), the frame limit does not count those no-ops, and where a life or game is lost *on* the script's last
    action SB3 shows the frame before its reset once more.

    Args:
        game: canonical game name.
        num_envs: number of lanes, 1..1024.
        preset: what the agent sees.
        sticky: probability that the emulator repeats the previous action (Machado et al. 2018).
        next_seed: called with a lane whose game has ended, lanes in order; returns the seed of its next game. Each
            such game is then the same whatever was played before it, for 0.07 s of loading its ROM again. By default
            a lane's games are one long stream from its first seed.
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
        sticky: float = 0.0,
        next_seed: Callable[[int], int] | None = None,
        second: Preset | None = None,
    ) -> None:
        if not 1 <= num_envs <= MAX_LANES:
            raise UserError(f"num_envs must be between 1 and {MAX_LANES}, got {num_envs}")
        if not 0.0 <= sticky < 1.0:
            raise UserError(f"sticky action probability must be in [0, 1), got {sticky}")
        self.game, self.preset, self.num_envs, self.sticky = game, preset, num_envs, sticky
        self._next_seed = next_seed
        self.info = game_info(game)
        if self.info.actions[0] != "NOOP":
            raise UserError(f"{game} has no NOOP action, so it cannot be preprocessed like other games; choose another")
        self.num_actions = len(self.info.actions)
        self._exact, self._convert = preset.gray == "max-then-gray", converter(preset)
        fire = "FIRE" in self.info.actions
        self._second = None if second is None else SecondSight(second, preset, num_envs, has_fire=fire)
        height, width = self.info.screen
        # Quiet is set by game_info; the seed makes every draw of no-ops reproducible.
        self._ale: Any = Emulators(
            game,
            num_envs,
            self._prepare,
            num_threads=1 if num_envs == 1 else 0,
            max_num_frames_per_episode=preset.max_frames,
            repeat_action_probability=sticky,
            autoreset_mode="SameStep",
            img_height=height if self._exact else preset.frame_size,
            img_width=width if self._exact else preset.frame_size,
            grayscale=not self._exact,
            stack_num=1,
            frameskip=preset.frame_skip,
            noop_max=preset.noop_max + 1,
            reward_clipping=False,
            use_fire_reset=False,
        )
        self._script = Script(num_envs, preset, has_fire=fire)
        size = preset.frame_size
        self._stack = np.zeros((num_envs, preset.frame_stack, size, size), np.uint8)
        self._next = np.zeros_like(self._stack)
        self._gray = np.zeros((num_envs, size, size), np.uint8)
        self._screens: Sequence[UInt8Array] = []
        self._lives = np.zeros(num_envs, np.int64)
        self._score = np.zeros(num_envs, np.float64)
        self._length = np.zeros(num_envs, np.int64)
        self._acting = np.ones(num_envs, bool)
        self._sent: tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None = None
        self._started = False
        self._closed = False

    def reset(self, seed: int | Sequence[int]) -> UInt8Array:
        """Start a new game in every lane and return the stacks.

        Reloads every ROM (about 0.1 s a lane): call once. Games that follow are started by ``step``.

        Args:
            seed: of the first lane, lane i has ``seed + i``; or one for each lane.
        """
        one = isinstance(seed, int | np.integer)
        seeds = np.asarray(seed) + np.arange(self.num_envs) if one else np.asarray(seed)
        if seeds.shape != (self.num_envs,):
            raise UserError(f"give the environment one seed, or one for each of its {self.num_envs} lanes; got {seed}")
        if seeds.min() < 0 or seeds.max() >= MAX_SEED:
            last = MAX_SEED - (self.num_envs if one else 1)
            raise UserError(f"an environment's seed must be between 0 and {last}, got {seed}")
        if self._closed:
            raise RuntimeError("this environment is closed; make a new one")
        frames, info = self._ale.reset(seed=seeds)
        frames, info = self._draw_noops(frames, info, np.ones(self.num_envs, bool))
        self._started = True
        self._lives[:] = info["lives"]
        self._score[:] = 0
        self._length[:] = 0
        self._screens = frames
        put_newest(self._stack, self._gray, np.ones(self.num_envs, bool), self.preset.padding_type)
        self._script.start()
        self._acting = self._script.done
        if self._second is not None:
            self._second.begin(self._acting)
        while not self._acting.all():
            self.step(np.zeros(self.num_envs, np.int64))
        return self._stack

    def step(self, actions: npt.NDArray[np.integer[Any]]) -> Step:
        """Play ``actions`` (integers, shape (N,)); lanes that are not ``acting`` play their script.

        Raises:
            ValueError: wrong shape or an action outside the game's set (either hangs the emulator).
            RuntimeError: called before ``reset`` or after ``close``.
        """
        self.send(actions)
        return self.recv()

    def send(self, actions: npt.NDArray[np.integer[Any]]) -> None:
        """The first half of ``step``: the emulators start, in threads of their own, and this returns."""
        actions = self._checked(actions)
        if self._sent is not None:
            raise RuntimeError("call recv() before the next send()")
        scripted = ~self._acting
        self._script.play(actions, scripted)
        self._sent = (actions, scripted)
        self._ale.send(actions)
        self._next[:, :-1] = self._stack[:, 1:]  # while the emulators play
        if self._second is not None:
            self._second.shift()

    def recv(self) -> Step:
        """The second half of ``step``: wait for the emulators."""
        if self._sent is None:
            raise RuntimeError("call send() before recv()")
        (actions, scripted), self._sent = self._sent, None
        frames, reward, terminated, truncated, info = self._ale.recv()
        reward = np.asarray(reward, np.float64)
        truncated = truncated & ~terminated
        over = terminated | truncated
        frames, info = self._draw_noops(*self._reseeded(frames, info, over), over)
        lives = np.asarray(info["lives"], np.int64)
        life_lost = (lives > 0) & (lives < self._lives) & ~over
        self._lives = lives
        self._score += reward
        self._length += 1
        self._script.extend(actions, scripted, over, life_lost)
        games = self._finish_games(over, truncated)
        self._stack, self._next = self._next, self._stack
        acting = self._script.done
        # SB3's wrappers begin the stack anew with the frame after the last scripted action.
        fresh = acting & (scripted | over | (life_lost if self.preset.life_loss_reset else False))
        self._screens = frames
        put_newest(self._stack, self._gray, fresh, self.preset.padding_type)
        if self._second is not None:
            self._second.take(over, life_lost, acting)
        self._acting = acting
        return Step(self._stack, reward, terminated, truncated, life_lost, acting, fresh, games)

    @property
    def played(self) -> npt.NDArray[np.int64]:
        """Steps of each lane's game so far, scripted ones included; int64 (N,)."""
        return self._length

    @property
    def second_obs(self) -> UInt8Array | None:
        """The stacks that an agent of the ``second`` preset sees now, where there is one; else None.

        uint8 (N, frame_stack, 84, 84), a live buffer like ``Step.obs``.
        """
        return None if self._second is None else self._second.stacks

    @property
    def screens(self) -> UInt8Array:
        """What the emulator gave at the last step, the maximum of its two newest frames.

        uint8 (N, H, W, 3) in colour and the console's size where the preset turns it gray by itself
        (``sb3``), else gray (N, 84, 84). After a game's end it is the next game's first screen.
        """
        return np.stack(self._screens)

    def close(self) -> None:
        """Free the emulators."""
        if not self._closed:
            self._closed = True
            self._ale.close()

    def __enter__(self) -> AtariVec:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _checked(self, actions: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        if not self._started or self._closed:
            raise RuntimeError("call reset() first; step() is for an open environment")
        if not np.issubdtype(np.asarray(actions).dtype, np.integer):
            raise ValueError(f"actions must be integers, got {np.asarray(actions).dtype}")
        checked = np.array(actions, np.int64)
        if checked.shape != (self.num_envs,):
            raise ValueError(f"actions must have shape ({self.num_envs},), got {checked.shape}")
        if checked.min() < 0 or checked.max() >= self.num_actions:
            raise ValueError(f"actions must be in 0..{self.num_actions - 1} for {self.game}, got {checked.tolist()}")
        return checked

    def _reseeded(
        self, frames: Sequence[UInt8Array], info: dict[str, Any], over: npt.NDArray[np.bool_]
    ) -> tuple[Sequence[UInt8Array], dict[str, Any]]:
        """Start the next game of these lanes from seeds of its own, where there are any."""
        if self._next_seed is None or not over.any():
            return frames, info
        seeds = np.array([self._next_seed(int(lane)) for lane in np.flatnonzero(over)])
        frames, info = self._ale.reset(seed=seeds, options={"reset_mask": over})
        return frames, info

    def _draw_noops(
        self, frames: Sequence[UInt8Array], info: dict[str, Any], over: npt.NDArray[np.bool_]
    ) -> tuple[Sequence[UInt8Array], dict[str, Any]]:
        """ALE draws 0..noop_max no-ops for a new game and SB3 1..noop_max: where it drew none, draw again."""
        if min(self.preset.noop_min, self.preset.noop_max) == 0:
            return frames, info
        while (again := over & (info["episode_frame_number"] == self.info.start_frames)).any():
            frames, info = self._ale.reset(options={"reset_mask": again})
        return frames, info

    def _finish_games(self, over: npt.NDArray[np.bool_], truncated: npt.NDArray[np.bool_]) -> list[Game]:
        games = [
            Game(int(lane), float(self._score[lane]), int(self._length[lane]), bool(truncated[lane]))
            for lane in np.flatnonzero(over)
        ]
        self._score[over] = 0
        self._length[over] = 0
        return games

    def _prepare(self, first: int, frames: UInt8Array) -> None:
        """New frames, uint8 (n, 1, H, W[, 3]), of the lanes from ``first`` on: make of them what the agent sees."""
        if self._second is not None:
            self._second.prepare(first, frames)
        if not self._exact:
            self._gray[first : first + len(frames)] = frames[:, 0]
            return
        for lane, frame in enumerate(frames[:, 0], first):
            self._convert(frame, self._gray[lane])
