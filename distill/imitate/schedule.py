"""What changes over a run, as functions of the share of its budget that is used up (0 at the start, 1 at the end)."""

from __future__ import annotations

import math


def budget_used(states: int, seconds: float, most_states: int | None, most_minutes: float | None) -> float:
    """Share of the budget that is used up: of states, of minutes, or of the one that ends first; 1 or more is over."""
    shares = [0.0 if most_states is None else states / most_states]
    shares += [0.0 if most_minutes is None else seconds / (60 * most_minutes)]
    return max(shares)


def learning_rate(used: float, first: float, last: float) -> float:
    """A cosine from ``first`` to ``last``."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, used)))


def teacher_share(used: float, end: float, until: float) -> float:
    """Share of the games that the teacher plays: falls linearly from 1 to ``end`` at ``until``, and stays there."""
    return end if used >= until else 1 - (1 - end) * used / until
