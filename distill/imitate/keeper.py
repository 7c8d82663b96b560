"""What is played, kept as shards of a data set while the play goes on."""

from __future__ import annotations

from types import TracebackType

import numpy as np
import numpy.typing as npt

from distill.collect.games import Drawn, Needed
from distill.collect.label import Labeller
from distill.collect.rollout import Recording, Taken, lane_by_lane
from distill.collect.scribe import Notes, Scribe
from distill.dataset.writer import DatasetWriter
from distill.envs.games import game_info
from distill.envs.presets import STACK
from distill.envs.step import Game
from distill.imitate.player import Mask, Played, Player
from distill.losses.projection import normals


class Keeper:
    """Labels and commits the states that a player plays (its ``Onlooker``); in context once it was attached.

    What was played whole is committed when the context is left, after an error too; a kill loses at most the shard
    being played and the one being written.

    Args:
        writer: where the shards go.
        labeller: what the teacher says; where it is the one that the player asks, its passes are not made twice.
        seed: of the run.
        shard_states: a shard is committed once it has so many.
    """

    def __init__(self, writer: DatasetWriter, labeller: Labeller, seed: int, shard_states: int) -> None:
        self.writer, self._labeller, self._seed, self._shard_states = writer, labeller, seed, shard_states
        self.states = writer.states
        """States that were played in all, committed or not."""

    @property
    def needed(self) -> Needed:
        """See ``Onlooker``."""
        identity = self.writer.identity
        actions = len(game_info(identity.game).actions)
        drawn = identity.k * normals(identity.law, actions, zero_sum=identity.space == "logits")
        return Needed(drawn if identity.jacobian == "projected" else 0, identity.jacobian_share)

    def attach(self, player: Player) -> Keeper:
        """Keep what ``player`` plays from now on."""
        self._player = player
        self._scribe = Scribe(self._labeller, self.writer, [player.teacher])
        self._begin()
        return self

    def see(self, obs: npt.NDArray[np.uint8], keep: Mask, drawn: Drawn) -> None:
        """See ``Onlooker``."""
        self._seen += int(keep.sum())
        self._notes.see(obs, keep, drawn)

    def add(self, played: Played) -> None:
        """What the last turn gave."""
        self._taken += played.taken
        self._games += played.ended
        self._count += played.states
        self.states += played.states
        if self._count >= self._shard_states:
            self.commit()

    def commit(self) -> None:
        """Have a shard written of what is not in one yet; returns before that is done."""
        if self._count:
            self._notes.label()
            arrays, order = lane_by_lane(self._taken, self._context, self._player.env.preset.padding_type)
            self._scribe.settle()
            self._scribe.commit(Recording(arrays, order, self._games), self._seed, self._player.games.next_episode)
        self._begin()

    def settle(self) -> None:
        """Commit what is left, and wait until it is on the disk."""
        self.commit()
        self._scribe.settle()

    def _begin(self) -> None:
        self._notes: Notes = self._scribe.begin()[0]
        self._taken: list[Taken] = []
        self._games: list[Game] = []
        self._seen = self._count = 0
        self._context = self._player.obs[:, : STACK - 1].copy()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._seen == self._count:  # else a turn was cut off, whose states have labels and nothing else
                self.settle()
        finally:
            self._scribe.__exit__()
            self.writer.close()
