"""What runs in a worker of Ray: one writer, which records a shard whenever it is asked to."""

from __future__ import annotations

import hashlib
import platform
import time
from dataclasses import dataclass

from distill.collect.order import Order
from distill.collect.session import Session
from distill.dataset.writer import DatasetWriter, WriterInUseError
from distill.envs.step import Game
from distill.errors import UserError
from distill.system.plugins import load_plugins
from distill.system.runtime import tune_process

PATIENCE_S, PAUSE_S = 60.0, 0.2


@dataclass(frozen=True)
class Told:
    """What a worker has done."""

    states: int
    """States of its writer that are committed."""
    games: list[Game]
    """Games that ended since it was last asked."""
    seconds: dict[str, float]
    """How long each part ran."""
    cpu: float
    """Processor seconds since it began."""


def open_patiently(order: Order, name: str) -> DatasetWriter:
    """A writer, once whoever held it is gone: a process whose node was given up may live some seconds longer.

    Raises:
        UserError: as ``DatasetWriter``, or somebody still holds it after a minute.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return order.open(name)
        except WriterInUseError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE_S)


class Worker:
    """One writer's process, as a Ray actor.

    Args:
        order: what is collected.
        name: the writer's.
        mark: SHA-256 of the dataset's dataset.json: it must be the same folder on every node.
    """

    def __init__(self, order: Order, name: str, mark: str) -> None:
        tune_process()
        self._order, self._name, self._mark = order, name, mark

    def open(self) -> Told:
        """Begin, where the last worker of this writer was stopped.

        Raises:
            UserError: the writer cannot be opened, or the folder is another one on this node.
        """
        load_plugins()
        manifest = self._order.folder / "dataset.json"
        if not manifest.is_file() or hashlib.sha256(manifest.read_bytes()).hexdigest() != self._mark:
            raise UserError(
                f"node {platform.node()} of the Ray cluster does not see the dataset in {self._order.folder}; let "
                "--collect.out lie where all nodes see it, such as a network file system with locks"
            )
        self._writer = open_patiently(self._order, self._name)
        self._session = Session(self._order, self._writer).__enter__()
        return self._told([])

    def record(self, states: int) -> Told:
        """Play a shard; the one before it is then committed."""
        return self._told(self._session.record(states))

    def settle(self) -> Told:
        """Wait until the last shard is committed, and let go of the writer: nothing else ends a worker but a kill."""
        self._session.settle()
        self._writer.close()
        return self._told([])

    def _told(self, games: list[Game]) -> Told:
        return Told(self._writer.states, games, self._session.seconds, self._session.cpu)
