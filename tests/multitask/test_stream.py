"""Whose turn it is."""

from __future__ import annotations

import pytest

from distill.multitask.stream import InTurn, turns


class Said:
    """A lesson that says what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def weights(self, step: int, total: int) -> dict[str, float]:
        self.asked.append((step, total))
        return {}


def test_equal_weights_alternate() -> None:
    assert turns([1, 1]) == [0, 1]
    assert turns([2.5, 2.5, 2.5]) == [0, 1, 2]
    assert turns([7]) == [0]


@pytest.mark.parametrize("weights", [(1, 3), (0.2, 0.3, 0.5), (1, 1, 2), (3, 7), (1, 999)])
def test_shares_are_kept_all_along(weights: tuple[float, ...]) -> None:
    order = turns(weights)
    for number, weight in enumerate(weights):
        share = weight / sum(weights)
        assert order.count(number) == pytest.approx(share * len(order))
        for step in range(1, len(order)):
            assert abs(order[:step].count(number) - share * step) <= 1 + 1e-9


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 3.0), (0.2, 0.3, 0.5), (0.123, 0.877)])
def test_steps_are_counted_as_they_are_taken(weights: tuple[float, ...]) -> None:
    lessons = [Said() for _ in weights]
    both = InTurn(lessons, weights)  # type: ignore[arg-type]
    total = 2345
    counts = [0] * len(weights)
    for step in range(total):
        for number, count in enumerate(counts):
            assert both.taken(step, number) == count
        counts[both.of(step)] += 1
        both.weights(step, total)
    for number, lesson in enumerate(lessons):  # its own steps, of its own total
        assert lesson.asked == [(step, counts[number]) for step in range(counts[number])]
