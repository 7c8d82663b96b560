"""Playing games and keeping each frame once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from distill.agents.actor import Actor
from distill.collect.games import Drawn, Games
from distill.dataset.schema import ShardArrays
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import STACK, Padding
from distill.envs.step import Game

Obs = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
See = Callable[[Obs, Mask, Drawn], None]
"""Called at every step, once the actor has chosen, with what the teacher sees, uint8 (N, 4, 84, 84), a live buffer (the
environment's second stacks where it has any), which of these states are recorded, bool (N,), and what was drawn for
their labels."""
COLUMNS = ("episode", "t", "action", "reward", "terminated", "truncated", "life_lost")


@dataclass
class Taken:
    """One step of all lanes, as a data set keeps it; arrays have a row for every lane."""

    frame: npt.NDArray[np.uint8]
    keep: npt.NDArray[np.bool_]
    fresh: npt.NDArray[np.bool_]
    episode: npt.NDArray[np.int64]
    t: npt.NDArray[np.int64]
    action: npt.NDArray[np.int64]
    reward: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    life_lost: npt.NDArray[np.bool_]


@dataclass
class _Rest:
    """A step that has been played, but not recorded for all lanes: the shard was full."""

    obs: Obs
    """What is recorded."""
    shown: Obs
    """What the teacher sees."""
    drawn: Drawn
    row: Taken
    """Its ``keep`` names the lanes that are left."""


@dataclass
class Recording:
    """States of one shard, not yet labelled, and the games that ended meanwhile."""

    arrays: ShardArrays
    order: npt.NDArray[np.int64]
    """int64 (n,): which of the recorded states, in the order they were played, each of them is."""
    games: list[Game] = field(default_factory=list)


class Rollout:
    """Steps an environment with an actor and records what the actor saw, lane by lane.

    Args:
        env: the lanes; reset here. It takes its seeds from ``games.begin``.
        actor: who acts.
        games: their numbers and what is random in them.
        check: called between steps; what it raises ends the play.
    """

    def __init__(self, env: AtariVec, actor: Actor, games: Games, check: Callable[[], None] = lambda: None) -> None:
        self.env, self.actor, self.games, self._check = env, actor, games, check
        self._obs = env.reset(games.start())
        self._acting = np.ones(env.num_envs, bool)
        self._fresh = np.ones(env.num_envs, bool)
        self._rest: _Rest | None = None
        self.seconds = {"env": 0.0, "actor": 0.0}

    @property
    def _shown(self) -> Obs:
        """What the teacher sees: the very array that is recorded where its eyes are the same."""
        second = self.env.second_obs
        return self._obs if second is None else second

    def record(self, states: int, see: See = lambda obs, keep, drawn: None) -> Recording:
        """Play until exactly ``states`` states are recorded; the next call goes on with the state after the last.

        Steps that the environment's script chose, and terminal frames, are never recorded.

        Args:
            states: how many.
            see: called at every step.
        """
        context = self._obs[:, : STACK - 1].copy()
        rows: list[Taken] = []
        games: list[Game] = []
        left = states
        while left > 0:
            self._check()
            rest, self._rest = self._rest, None
            waiting = self._acting if rest is None else rest.row.keep
            keep = waiting & (np.cumsum(waiting) <= left)
            left -= int(keep.sum())
            if rest is None:
                row, ended = self._advance(keep, see)
                games += ended
            else:
                row = self._catch_up(rest, keep, see)
                context[keep] = rest.obs[keep, : STACK - 1]
            rows.append(row)
        arrays, order = lane_by_lane(rows, context, self.env.preset.padding_type)
        return Recording(arrays, order, games)

    def _advance(self, keep: Mask, see: See) -> tuple[Taken, list[Game]]:
        frame = self._obs[:, -1].copy()
        fresh, episode, t = self._fresh, self.games.number.copy(), self.env.played.copy()
        self.games.acting = self._acting
        started = time.perf_counter()
        shown = self._shown
        action = self.actor.act(self._obs, self.games, *(() if shown is self._obs else (shown,)))
        acted = time.perf_counter()
        drawn, later = self.games.draw(), self._acting & ~keep
        before = self._obs.copy() if later.any() else None
        before_shown = shown.copy() if before is not None and shown is not self._obs else before
        see(shown, keep, drawn)
        seen = time.perf_counter()
        step = self.env.step(action)
        self.seconds["actor"] += acted - started
        self.seconds["env"] += time.perf_counter() - seen
        row = Taken(frame, keep, fresh, episode, t, action, step.reward,
                   step.terminated, step.truncated, step.life_lost)  # fmt: skip
        if before is not None and before_shown is not None:
            self._rest = _Rest(before, before_shown, drawn, replace(row, keep=later))
        self._obs, self._acting, self._fresh = step.obs, step.acting, step.fresh
        return row, step.games

    def _catch_up(self, rest: _Rest, keep: Mask, see: See) -> Taken:
        """Record more lanes of a step that has been played; the actor has not acted since."""
        see(rest.shown, keep, rest.drawn)
        later = rest.row.keep & ~keep
        if later.any():
            self._rest = replace(rest, row=replace(rest.row, keep=later))
        return replace(rest.row, keep=keep)


def joined(recordings: Sequence[Recording]) -> Recording:
    """One recording of all the states of several, one recording after the other."""
    if len(recordings) == 1:
        return recordings[0]
    arrays = [recording.arrays for recording in recordings]
    frames = np.cumsum([0, *(len(part.frames) for part in arrays)])
    states = np.cumsum([0, *(len(part) for part in arrays)])
    columns = {name: np.concatenate([getattr(part, name) for part in arrays]) for name in ("frames", *COLUMNS)}
    pos = np.concatenate([part.pos + start for part, start in zip(arrays, frames, strict=False)])
    order = np.concatenate([part.order + start for part, start in zip(recordings, states, strict=False)])
    return Recording(ShardArrays(pos=pos, **columns), order, [game for part in recordings for game in part.games])


def lane_by_lane(
    rows: Sequence[Taken], context: npt.NDArray[np.uint8], padding: Padding
) -> tuple[ShardArrays, npt.NDArray[np.int64]]:
    """Reorder (time, lane) to lane-major and put three context frames before every run of frames.

    ``context``: the three frames before the newest one of what each lane saw at the first step, (N, 3, 84, 84).

    A run is a stretch of one lane in which each stack is the last one shifted by a frame; it ends
    where a stack begins anew (new game, lost life). The context makes every stack, the first of a
    run included, four consecutive frames on disk.
    """
    table = {name: np.stack([getattr(row, name) for row in rows], 1) for name in vars(rows[0])}
    zeros = np.zeros_like(context[0])
    frames: list[npt.NDArray[np.uint8]] = []
    pos: list[npt.NDArray[np.int64]] = []
    order: list[tuple[int, npt.NDArray[np.int64]]] = []
    length = 0
    for lane in range(len(context)):
        kept = np.flatnonzero(table["keep"][lane])
        if not len(kept):
            continue
        starts = np.flatnonzero(table["fresh"][lane][kept])
        bounds = np.unique(np.concatenate([[0], starts, [len(kept)]]))
        for first, last in itertools.pairwise(bounds):
            steps = kept[first:last]
            shown = table["frame"][lane, steps]
            padded = zeros if padding == "zero" else shown[:1].repeat(STACK - 1, 0)
            frames += [padded if table["fresh"][lane, steps[0]] else context[lane], shown]
            pos.append(length + STACK - 1 + np.arange(len(steps)))
            length += STACK - 1 + len(steps)
        order.append((lane, kept))
    columns = {name: np.concatenate([table[name][lane, kept] for lane, kept in order]) for name in COLUMNS}
    played = np.cumsum(table["keep"].T).reshape(table["keep"].T.shape).T - 1
    arrays = ShardArrays(
        frames=np.concatenate(frames),
        pos=np.concatenate(pos),
        episode=columns["episode"],
        t=columns["t"].astype(np.int32),
        action=columns["action"].astype(np.int16),
        reward=columns["reward"].astype(np.float32),
        terminated=columns["terminated"],
        truncated=columns["truncated"],
        life_lost=columns["life_lost"],
    )
    return arrays, np.concatenate([played[lane, kept] for lane, kept in order])
