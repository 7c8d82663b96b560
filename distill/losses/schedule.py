"""Lambda as a function of the step alone, so that a run that goes on needs no state."""

from __future__ import annotations

import math


def jacobian_weight(step: int, total: int, weight: float, schedule: str, until: float = 1.0) -> float:
    """Lambda at ``step``: constant, or decayed to zero linearly or by a cosine.

    ``until``: it is 0 after this share of the training, and decays towards there.
    """
    share = step / max(1, total * until)
    if until < 1 <= share:
        return 0.0
    factor = {"constant": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[schedule]
    return weight * factor
