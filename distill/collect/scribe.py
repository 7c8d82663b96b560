"""Labels of what is played, and a thread that writes shards while the games go on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from distill.agents.actor import Policy
from distill.collect.games import Drawn
from distill.collect.label import Labeller, Labels, Seen, fill
from distill.collect.rollout import Recording
from distill.dataset.writer import DatasetWriter
from distill.networks.nets import draws_at_play
from distill.records.dataset import GamePlayed, Played

BATCH = 256
"""States labelled at once."""


class Notes:
    """The states that one half of the games plays for a shard, and their labels.

    Labels are made in the thread that plays: meanwhile the other half plays on.

    Args:
        labeller: what the teacher says.
        player: whose actions are played; where that is the teacher, its forward pass is not made twice.
    """

    def __init__(self, labeller: Labeller, player: Policy) -> None:
        self._labeller, self._player = labeller, player
        self._teacher_plays = player.net is labeller.policy.net
        self._draws = draws_at_play(labeller.policy.net)  # forward passes of several draws are not to be joined
        self._seen: list[Seen] = []
        self._count = 0
        self.labels: list[Labels] = []
        self.seconds = 0.0

    def see(self, obs: npt.NDArray[np.uint8], keep: npt.NDArray[np.bool_], drawn: Drawn) -> None:
        """Note the states of one step that are recorded, right after the player acted on them."""
        if not keep.any():
            return
        normal, carries = torch.from_numpy(drawn.normal[keep]), drawn.carries[keep]
        if self._teacher_plays:
            kept = None if keep.all() else torch.from_numpy(np.flatnonzero(keep))
            seen = Seen(normal, carries, tape=self._player.tape, keep=kept)
        else:
            seen = Seen(normal, carries, obs=obs[keep])
        self._seen.append(seen)
        self._count += int(keep.sum())
        if self._count >= BATCH or self._draws:
            self.label()

    def label(self) -> None:
        """Label what was seen since the last time."""
        if not self._seen:
            return
        started = time.perf_counter()
        with self._player.drawing():
            self.labels.append(self._labeller.label(self._seen))
        self.seconds += time.perf_counter() - started
        self._seen, self._count = [], 0


class Scribe:
    """Has states labelled as they are played, and commits shards in a thread of its own.

    Args:
        labeller: what the teacher says.
        writer: where it goes.
        players: whose actions are played, half by half.
    """

    def __init__(self, labeller: Labeller, writer: DatasetWriter, players: Sequence[Policy]) -> None:
        self.labeller, self.writer, self._players = labeller, writer, players
        self.seconds = {"label": 0.0, "write": 0.0}
        self._pool = ThreadPoolExecutor(1)
        self._shard: Future[None] | None = None
        self._notes: list[Notes] = []

    def __enter__(self) -> Scribe:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown()  # a shard that was played whole is still written

    def begin(self) -> list[Notes]:
        """Begin a shard: each half of the games takes its own notes."""
        self._notes = [Notes(self.labeller, player) for player in self._players]
        return self._notes

    def commit(self, recording: Recording, seed: int, next_episode: int) -> None:
        """Write what was recorded since ``begin`` as one shard; returns before that is done.

        Args:
            recording: all halves' states, one half after the other.
            seed: of the collection.
            next_episode: number of the next game.
        """
        self.seconds["label"] += sum(notes.seconds for notes in self._notes) / len(self._notes)
        labels = [part for notes in self._notes for part in notes.labels]
        self._shard = self._pool.submit(self._write, recording, labels, seed, next_episode)

    def settle(self) -> None:
        """Wait for the last commit; raises what went wrong in it."""
        if self._shard is not None:
            self._shard.result()

    def _write(self, recording: Recording, labels: Sequence[Labels], seed: int, next_episode: int) -> None:
        started = time.perf_counter()
        square_sum = fill(recording.arrays, labels, recording.order, self.labeller.identity)
        games = [GamePlayed(game.score, game.length) for game in recording.games]
        self.writer.commit(recording.arrays, Played(next_episode, square_sum, games, seed))
        self.seconds["write"] += time.perf_counter() - started
