"""The games of some lanes: their numbers, and everything random in them.

A game depends on (seed, writer, its number) alone: not on the lanes beside it, on where shards end, or on how often
the collection was continued. So two writers never record the same games, and no game is recorded twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distill.envs.ale_vec import MAX_SEED
from distill.system.streams import generator

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
BLOCK = 16
"""States in a row that have their share of derivatives: neighbours in time are alike, so that few are enough there."""


@dataclass(frozen=True)
class Needed:
    """What the labels of a state are drawn from."""

    normals: int = 0
    """Numbers for its projections."""
    share: float = 1.0
    """Share of the states that carry derivatives."""


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a step, a row for every lane."""

    normal: Float32
    """What projections are made of, standard normal, float32 (N, ``normals``)."""
    carries: npt.NDArray[np.bool_]
    """Whether the state carries derivatives, bool (N,)."""


class Games:
    """Numbers the games of some lanes and draws what is random in them, a row for every lane.

    It stands in for the generator of an ``Actor``, whose ``random`` and ``gumbel`` it has. Lanes that play a script
    draw nothing, so that a game's draws are counted in turns of its own.

    Args:
        seed: of the collection.
        writer: name of the stream of shards.
        lanes: games side by side.
        first: number of the first game.
        stride: from one game's number to the next one's.
        needed: what is drawn for each state's labels.
    """

    def __init__(
        self, seed: int, writer: str, lanes: int, first: int = 0, stride: int = 1, needed: Needed | None = None
    ) -> None:
        self.next_episode = first
        self.number = np.zeros(lanes, np.int64)
        """Number of each lane's game, int64 (N,)."""
        self.acting = np.ones(lanes, bool)
        """Lanes whose actor is at turn, bool (N,); set at every step."""
        self._key, self._stride, self._needed = (seed, writer), stride, needed or Needed()
        self._actor: dict[int, np.random.Generator] = {}
        self._projections: dict[int, np.random.Generator] = {}
        self._carries: dict[int, Iterator[bool]] = {}

    def start(self) -> list[int]:
        """Begin a game in every lane; returns the emulators' seeds."""
        return [self.begin(lane) for lane in range(len(self.number))]

    def begin(self, lane: int) -> int:
        """Give ``lane`` its next game; returns the emulator's seed."""
        key = (*self._key, self.next_episode)
        self.number[lane], self.next_episode = self.next_episode, self.next_episode + self._stride
        self._actor[lane] = generator("actor", *key)
        self._projections[lane] = generator("projections", *key)
        self._carries[lane] = carriers(generator("carriers", *key), self._needed.share)
        return int(generator("emulator", *key).integers(MAX_SEED))

    def random(self, size: int) -> Float64:
        """Uniform in [0, 1), float64 (N,); ``size`` is N."""
        return self._uniform(size, 1)[:, 0]

    def gumbel(self, *, size: tuple[int, int]) -> Float64:
        """Standard Gumbel variables, float64 (N, A); ``size`` is (N, A)."""
        return -np.log(-np.log1p(-self._uniform(*size)))

    def draw(self) -> Drawn:
        """For the labels of a step. Projections are drawn for all states, so that they do not depend on the share."""
        normal = np.zeros((len(self.number), self._needed.normals), np.float32)
        carries = np.ones(len(self.number), bool)
        for lane in np.flatnonzero(self.acting).tolist():
            if self._needed.normals:
                self._projections[lane].standard_normal(dtype=np.float32, out=normal[lane])
            if self._needed.share < 1:
                carries[lane] = next(self._carries[lane])
        return Drawn(normal, carries)

    def _uniform(self, lanes: int, count: int) -> Float64:
        assert lanes == len(self.number)
        drawn = np.full((lanes, count), 0.5)
        for lane in np.flatnonzero(self.acting).tolist():
            self._actor[lane].random(out=drawn[lane])
        return drawn


def carriers(rng: np.random.Generator, share: float) -> Iterator[bool]:
    """Whether each state of a game, in turn, carries derivatives.

    Of every ``BLOCK`` states in a row as near as can be ``share`` do, at random places. So every state does with that
    probability, and a game's count is off by less than one block's.
    """
    start = rng.random()
    for block in itertools.count():
        first, last = (int(start + share * BLOCK * number) for number in (block, block + 1))
        yield from (rng.permutation(BLOCK) < last - first).tolist()
