"""One writer at work: games are played and labelled while the shard before is written."""

from __future__ import annotations

import contextlib
import time
from typing import Self

from distill.collect.label import Labeller
from distill.collect.order import Order
from distill.collect.play import Play
from distill.collect.scribe import Scribe
from distill.dataset.writer import DatasetWriter
from distill.envs.step import Game
from distill.system.crew import Crew
from distill.system.device import pick_device
from distill.system.runtime import torch_threads


class Session:
    """Plays for one writer while in context. A shard that was played whole is written, whatever happens then.

    Args:
        order: what is collected.
        writer: where it goes.
    """

    def __init__(self, order: Order, writer: DatasetWriter) -> None:
        self._order, self._writer = order, writer
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        order, device = self._order, pick_device(self._order.config.device)
        labeller = Labeller.of(order.teacher, order.identity, device)
        with contextlib.ExitStack() as stack:
            # The emulators, two halves of the play and the scribe share the cores: half of them for each network.
            stack.enter_context(torch_threads(0.5))
            crew = stack.enter_context(Crew(2))
            self._play = stack.enter_context(Play(order.config, self._writer, order.actors(device), crew))
            self._scribe = stack.enter_context(Scribe(labeller, self._writer, self._play.players))
            self._stack = stack.pop_all()
        self._begun = time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def seconds(self) -> dict[str, float]:
        """How long each part ran: env and actor (one after the other) beside label and write."""
        return self._play.seconds | self._scribe.seconds

    @property
    def cpu(self) -> float:
        """Processor seconds of this process, all threads, since it was entered."""
        return time.process_time() - self._begun

    def record(self, states: int) -> list[Game]:
        """Play a shard of so many states and begin to write it; returns the games that ended.

        The shard before is committed when this returns: play is one shard ahead at most.
        """
        recording = self._play.record(states, self._scribe.begin())
        self._scribe.settle()
        self._scribe.commit(recording, self._order.config.seed, self._play.next_episode)
        return recording.games

    def settle(self) -> None:
        """Wait until the last shard is committed."""
        self._scribe.settle()
