"""How much the teacher counts, as a function of what was played and scored."""

from __future__ import annotations

from distill.envs.games import REFERENCE_SCORES
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


def share_of(game: str, score: float, teacher: float) -> float:
    """The student's share of the teacher's score above random play; above 0 where no random score is known.

    A teacher that is no better than random play has nothing to say: the share is 1.
    """
    random = REFERENCE_SCORES[game][0] if game in REFERENCE_SCORES else 0.0
    return (score - random) / (teacher - random) if teacher > random else 1.0
