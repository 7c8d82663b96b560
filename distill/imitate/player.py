"""Games that the student plays and the teacher watches; at first the teacher plays, too."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from distill.agents.actor import Policy
from distill.collect.games import Drawn, Games, Needed
from distill.collect.rollout import Taken
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import Preset, get_preset
from distill.envs.step import Game
from distill.errors import UserError
from distill.imitate.settings import ImitateRun
from distill.system.streams import generator
from teachers.protocol import Teacher

STREAM = "imitate"
"""Names the games' random streams: none of them is one that is recorded."""
Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass
class Row:
    """One step of all lanes: what they saw, and what came of it."""

    keep: Mask
    """Somebody acted, bool (N,); elsewhere the script did, and the state is not learned from."""
    fresh: Mask
    """The stack begins anew with ``frame``, bool (N,)."""
    frame: npt.NDArray[np.uint8]
    """Newest frame of what the student saw, uint8 (N, 84, 84)."""
    logits: Float32
    """The teacher's, (N, A)."""
    student: Float32
    """The student's, (N, A)."""
    value: Float32
    """The teacher's estimate, (N,); NaN where it has none."""
    reward: Float32
    """What the action earned, cut to -1, 0 or 1, (N,)."""
    end: Float32
    """1 where the action cost a life or ended the game, else 0, (N,)."""


@dataclass
class Played:
    """What some steps gave."""

    rows: list[Row] = field(default_factory=list)
    games: list[Game] = field(default_factory=list)
    """Games that ended meanwhile and that the student played alone."""
    taken: list[Taken] = field(default_factory=list)
    """The same steps as a data set keeps them, where somebody keeps them, and ..."""
    ended: list[Game] = field(default_factory=list)
    """... all games that ended meanwhile."""

    @property
    def states(self) -> int:
        """States to learn from."""
        return sum(int(row.keep.sum()) for row in self.rows)

    def logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The student's and the teacher's logits, float (states, A) each."""
        student = np.concatenate([row.student[row.keep] for row in self.rows])
        teacher = np.concatenate([row.logits[row.keep] for row in self.rows])
        return torch.from_numpy(student), torch.from_numpy(teacher)


class Onlooker(Protocol):
    """Who keeps what is played."""

    @property
    def needed(self) -> Needed:
        """What is drawn for its labels, besides what the play draws."""

    def see(self, obs: npt.NDArray[np.uint8], keep: Mask, drawn: Drawn) -> None:
        """What the teacher was just asked about, as ``distill.collect.rollout.See``."""


class Player:
    """Lanes in lock-step; in context, since it holds emulators.

    Whether the teacher plays a game is drawn with it: a number between 0 and 1, compared at every step with the
    teacher's share, so that a game may pass from the teacher to the student. Both sample their policies.

    Args:
        config: game, seed and number of lanes.
        preset: what the student sees.
        teacher: who labels; it sees its own preset's stacks of the same screens.
        device: where both networks run.
        first: number of the first game; a run that continues plays the games that follow.
        onlooker: keeps what is played.
    """

    def __init__(
        self,
        config: ImitateRun,
        preset: Preset,
        teacher: Teacher,
        device: torch.device,
        first: int = 0,
        onlooker: Onlooker | None = None,
    ) -> None:
        lanes, sees = config.imitate.num_envs, get_preset(teacher.info.preset)
        self.teacher, self._name, self._seed = Policy(teacher.net, device, lane=first), teacher.info.name, config.seed
        self.onlooker = onlooker
        self.games = Games(config.seed, STREAM, lanes, first, needed=None if onlooker is None else onlooker.needed)
        second = None if sees.sees_as(preset) else sees
        self.env = AtariVec(config.env, lanes, preset, next_seed=self._begin, second=second)
        self.seconds = {"emulators": 0.0, "teacher": 0.0, "student": 0.0}
        self._lot, self._helped = np.zeros(lanes), np.zeros(lanes, bool)
        self._acting, self._fresh = np.ones(lanes, bool), np.ones(lanes, bool)
        self.obs = self.env.reset([self._begin(lane) for lane in range(lanes)])
        """What the student sees now, uint8 (N, 4, 84, 84), a live buffer."""

    def play(self, student: Policy, steps: int, share: float) -> Played:
        """Play ``steps`` steps of all lanes.

        Args:
            student: its weights must not change meanwhile.
            steps: how many.
            share: of games that the teacher plays; it must never grow.

        Raises:
            UserError: the teacher gives NaN or infinite logits.
        """
        played = Played()
        for _ in range(steps):
            began = time.perf_counter()
            logits, value = self._ask_teacher()
            asked = time.perf_counter()
            answer = student.logits(self.obs).numpy()
            teaches = self._lot < share
            chosen = np.where(teaches[:, None], logits, answer)
            self._helped |= teaches
            self.games.acting = keep = self._acting
            action = (chosen + self.games.gumbel(size=chosen.shape)).argmax(-1)
            frame, fresh, helped = self.obs[:, -1].copy(), self._fresh, self._helped.copy()
            episode, t = self.games.number.copy(), self.env.played.copy()
            if self.onlooker is not None:
                self.onlooker.see(self.teacher_obs(), keep, self.games.draw())
            acted = time.perf_counter()
            step = self.env.step(action)
            self.obs, self._acting, self._fresh = step.obs, step.acting, step.fresh
            end = step.terminated | step.truncated | step.life_lost
            reward = np.sign(step.reward).astype(np.float32)
            played.rows.append(Row(keep, fresh, frame, logits, answer, value, reward, end.astype(np.float32)))
            if self.onlooker is not None:
                ends = step.terminated, step.truncated, step.life_lost
                played.taken.append(Taken(frame, keep, fresh, episode, t, action, step.reward, *ends))
            played.ended += step.games
            played.games += [ended for ended in step.games if not helped[ended.lane]]
            self.seconds["teacher"] += asked - began
            self.seconds["student"] += acted - asked
            self.seconds["emulators"] += time.perf_counter() - acted
        return played

    def teacher_obs(self) -> npt.NDArray[np.uint8]:
        """What the teacher sees now, uint8 (N, 4, 84, 84)."""
        second = self.env.second_obs
        return self.obs if second is None else second

    def _ask_teacher(self) -> tuple[Float32, Float32]:
        """Logits (N, A) and values (N,) at the states that the student is about to see."""
        logits = self.teacher.logits(self.teacher_obs()).numpy()
        if not np.isfinite(logits).all():
            raise UserError(
                f"teacher {self._name} gives NaN or infinite logits; its weights are damaged or far too large, "
                "so it cannot be imitated"
            )
        with torch.no_grad():
            value = self.teacher.value(self.teacher.tape)
        if value is None:
            return logits, np.full(len(logits), np.nan, np.float32)
        return logits, value.cpu().numpy()

    def _begin(self, lane: int) -> int:
        seed = self.games.begin(lane)
        self._lot[lane] = generator("player", self._seed, STREAM, int(self.games.number[lane])).random()
        self._helped[lane] = False
        return seed

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *exc: object) -> None:
        self.env.close()
