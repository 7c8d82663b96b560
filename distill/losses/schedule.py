"""Lambda as a function of the step alone, so that a run that goes on needs no state."""

from __future__ import annotations

import math


def jacobian_weight(step: int, total: int, weight: float, schedule: str) -> float:
    """Lambda at ``step``: constant, or decayed to zero linearly or by a cosine."""
    share = step / max(1, total)
    factor = {"constant": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[schedule]
    return weight * factor
