"""What one step of all lanes gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Game:
    """One finished game."""

    lane: int
    score: float
    """Sum of raw, unclipped rewards over all lives."""
    length: int
    """Agent steps, scripted ones included (``frame_skip`` emulator frames each)."""
    truncated: bool
    """True where the frame limit ended the game, not the game itself."""


@dataclass
class Step:
    """What one step of all lanes gave. ``obs`` is a live buffer, written anew two steps later: copy what you keep."""

    obs: UInt8Array
    """uint8 (N, frame_stack, 84, 84): the stack each lane sees now, oldest frame first."""
    reward: npt.NDArray[np.float64]
    """float64 (N,): raw reward of this step."""
    terminated: npt.NDArray[np.bool_]
    """bool (N,): the game ended; ``obs`` already belongs to the next one."""
    truncated: npt.NDArray[np.bool_]
    """bool (N,): the frame limit ended the game."""
    life_lost: npt.NDArray[np.bool_]
    """bool (N,): a life, but not the game, was lost."""
    acting: npt.NDArray[np.bool_]
    """bool (N,): the agent chooses this lane's next action; elsewhere the script does."""
    fresh: npt.NDArray[np.bool_]
    """bool (N,): the stack begins anew and holds nothing but its newest frame, and padding."""
    games: list[Game] = field(default_factory=list)
    """Games that ended in this step."""
