from __future__ import annotations

import pytest

from distill.imitate.schedule import budget_used, learning_rate, teacher_share


@pytest.mark.parametrize(
    ("states", "seconds", "most_states", "most_minutes", "used"),
    [
        (0, 0.0, 100, None, 0.0),
        (25, 999.0, 100, None, 0.25),
        (25, 30.0, None, 1.0, 0.5),
        (25, 30.0, 100, 1.0, 0.5),
        (75, 30.0, 100, 1.0, 0.75),
        (104, 0.0, 100, 1.0, 1.04),
    ],
)
def test_the_budget_that_is_used_up_first_counts(
    states: int, seconds: float, most_states: int | None, most_minutes: float | None, used: float
) -> None:
    assert budget_used(states, seconds, most_states, most_minutes) == pytest.approx(used)


def test_the_rate_is_a_cosine_between_its_ends() -> None:
    rates = [learning_rate(used, 1e-3, 2e-5) for used in (0, 0.25, 0.5, 0.75, 1, 1.2)]
    assert rates[0] == 1e-3
    assert rates[2] == pytest.approx((1e-3 + 2e-5) / 2)
    assert rates[4] == rates[5] == pytest.approx(2e-5)
    assert rates == sorted(rates, reverse=True)
    assert 1e-3 - rates[1] == pytest.approx(rates[3] - 2e-5)


@pytest.mark.parametrize(
    ("used", "end", "until", "share"),
    [
        (0, 0.05, 0.08, 1),
        (0.04, 0.05, 0.08, 0.525),
        (0.08, 0.05, 0.08, 0.05),
        (0.9, 0.05, 0.08, 0.05),
        (0, 0.3, 0, 0.3),
        (0.5, 0, 1, 0.5),
        (0.7, 1, 0.5, 1),
    ],
)
def test_the_teacher_hands_over(used: float, end: float, until: float, share: float) -> None:
    assert teacher_share(used, end, until) == pytest.approx(share)
