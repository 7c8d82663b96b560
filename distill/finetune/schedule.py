"""How much the teacher counts, as a function of what was played and scored."""

from __future__ import annotations

from distill.finetune.settings import FinetuneConfig


def teacher_weight(config: FinetuneConfig, used: float, share: float | None) -> float:
    """Weight of KL(teacher || student).

    Args:
        config: first weight and schedule.
        used: share of the states that are played, 0 at the start, 1 at the end.
        share: the student's share of its teacher's score above random play; None before its first game.
    """
    if config.schedule == "linear":
        left = 1 - used / config.schedule_until if config.schedule_until > 0 else 0.0
    elif config.schedule == "score":
        left = 1.0 if share is None else 1 - share
    else:
        left = 1.0
    return config.teacher_weight * min(max(left, 0.0), 1.0)
