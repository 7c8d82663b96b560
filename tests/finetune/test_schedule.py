from __future__ import annotations

import pytest

from distill.finetune.schedule import teacher_weight
from distill.finetune.settings import FinetuneConfig


@pytest.mark.parametrize(
    ("schedule", "until", "used", "share", "weight"),
    [
        ("constant", 1.0, 0.9, 2.0, 4.0),
        ("linear", 1.0, 0.25, None, 3.0),
        ("linear", 0.5, 0.25, None, 2.0),
        ("linear", 0.5, 0.75, None, 0.0),
        ("linear", 0.0, 0.0, None, 0.0),
        ("score", 1.0, 0.9, None, 4.0),
        ("score", 1.0, 0.9, -0.1, 4.0),
        ("score", 1.0, 0.9, 0.75, 1.0),
        ("score", 1.0, 0.0, 1.2, 0.0),
    ],
)
def test_weight(schedule: str, until: float, used: float, share: float | None, weight: float) -> None:
    config = FinetuneConfig(teacher_weight=4.0, schedule=schedule, schedule_until=until)  # type: ignore[arg-type]
    assert teacher_weight(config, used, share) == pytest.approx(weight)
