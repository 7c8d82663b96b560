"""The learning rate as a function of the step alone, so a resumed run needs no state."""

from __future__ import annotations

import math


def learning_rate(step: int, total: int, peak: float, warmup: int) -> float:
    """Linear warm-up over ``warmup`` steps, then a cosine from ``peak`` to zero at ``total``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
