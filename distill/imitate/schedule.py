"""What changes over a run, as functions of the share of its budget that is used up (0 at the start, 1 at the end)."""

from __future__ import annotations

import math

from distill.losses.sobolev import Objective


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


def term_weights(
    objective: Objective, used: float, most_states: int | None, most_minutes: float | None
) -> dict[str, float]:
    """Weights of the objective's terms by name.

    Their schedules count steps, and nobody knows how many of these a budget allows: a step is a state of the budget
    or, where only minutes count, a second.
    """
    total = most_states if most_states is not None else max(1, round(60 * (most_minutes or 0)))
    return objective.weights(min(int(used * total), total - 1), total)
