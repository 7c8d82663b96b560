"""The games of some lanes: their numbers, and everything random in them.

A game depends on (seed, writer, its number) alone: not on the lanes beside it, on where shards end, or on how often
the collection was continued. So two writers never record the same games, and no game is recorded twice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from distill.envs.ale_vec import MAX_SEED
from distill.system.streams import generator

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


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
        normals: numbers drawn for each state's projections.
    """

    def __init__(self, seed: int, writer: str, lanes: int, first: int = 0, stride: int = 1, normals: int = 0) -> None:
        self.next_episode = first
        self.number = np.zeros(lanes, np.int64)
        """Number of each lane's game, int64 (N,)."""
        self.acting = np.ones(lanes, bool)
        """Lanes whose actor is at turn, bool (N,); set at every step."""
        self._key, self._stride, self._normals = (seed, writer), stride, normals
        self._actor: dict[int, np.random.Generator] = {}
        self._projections: dict[int, np.random.Generator] = {}

    def start(self) -> list[int]:
        """Begin a game in every lane; returns the emulators' seeds."""
        return [self.begin(lane) for lane in range(len(self.number))]

    def begin(self, lane: int) -> int:
        """Give ``lane`` its next game; returns the emulator's seed."""
        key = (*self._key, self.next_episode)
        self.number[lane], self.next_episode = self.next_episode, self.next_episode + self._stride
        self._actor[lane] = generator("actor", *key)
        self._projections[lane] = generator("projections", *key)
        return int(generator("emulator", *key).integers(MAX_SEED))

    def random(self, size: int) -> Float64:
        """Uniform in [0, 1), float64 (N,); ``size`` is N."""
        return self._uniform(size, 1)[:, 0]

    def gumbel(self, *, size: tuple[int, int]) -> Float64:
        """Standard Gumbel variables, float64 (N, A); ``size`` is (N, A)."""
        return -np.log(-np.log1p(-self._uniform(*size)))

    def normal(self) -> Float32:
        """What each lane's projections are made of, standard normal, float32 (N, ``normals``)."""
        drawn = np.zeros((len(self.number), self._normals), np.float32)
        if self._normals:
            for lane in np.flatnonzero(self.acting).tolist():
                self._projections[lane].standard_normal(dtype=np.float32, out=drawn[lane])
        return drawn

    def _uniform(self, lanes: int, count: int) -> Float64:
        assert lanes == len(self.number)
        drawn = np.full((lanes, count), 0.5)
        for lane in np.flatnonzero(self.acting).tolist():
            self._actor[lane].random(out=drawn[lane])
        return drawn
