"""What is played in a lane without asking the agent: FIRE and action 2 after a reset, a no-op after a lost life."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from distill.envs.presets import Preset

NOOP, FIRE, SECOND = 0, 1, 2
Bools = npt.NDArray[np.bool_]


class Script:
    """A queue of actions for every lane; the agent acts where it is empty.

    Args:
        lanes: their number.
        preset: what it plays after a reset and after a lost life.
        has_fire: the game has FIRE.
    """

    def __init__(self, lanes: int, preset: Preset, *, has_fire: bool) -> None:
        self._after_game = [FIRE, SECOND] if preset.fire_reset and has_fire else []
        self._after_life = [NOOP, *self._after_game] if preset.life_loss_reset else []
        self._queues: list[deque[int]] = [deque() for _ in range(lanes)]

    @property
    def done(self) -> Bools:
        """Where nothing is left to play, so that the agent acts, bool (N,)."""
        return np.array([not queue for queue in self._queues])

    def start(self) -> None:
        """All lanes have new games."""
        for queue in self._queues:
            queue.clear()
            queue.extend(self._after_game)

    def play(self, actions: npt.NDArray[np.int64], scripted: Bools) -> None:
        """Replace the actions, int64 (N,), of the lanes that are ``scripted``, bool (N,), by their next ones."""
        for lane in np.flatnonzero(scripted):
            actions[lane] = self._queues[lane].popleft()

    def extend(self, actions: npt.NDArray[np.int64], scripted: Bools, over: Bools, life_lost: Bools) -> None:
        """What a step of all lanes asks for.

        Args:
            actions: int64 (N,), as they were played.
            scripted: bool (N,), by the script.
            over: bool (N,), the game ended.
            life_lost: bool (N,), a life, but not the game, was lost.
        """
        # A game that ends inside a script is reset in place and the script goes on.
        for lane in np.flatnonzero(over & ~scripted):
            self._queues[lane].extend(self._after_game)
        for lane in np.flatnonzero(life_lost) if self._after_life else ():
            if not scripted[lane]:
                self._queues[lane].extend(self._after_life)
            elif actions[lane] != NOOP:
                # SB3's EpisodicLifeEnv looks at the lives after FIRE and action 2, not after its own no-op.
                self._queues[lane].appendleft(NOOP)
