"""Rungs by hand: shares above random play, intervals over seeds or games, and what int8 costs."""

from __future__ import annotations

from dataclasses import fields

import pytest

from distill.shrink.ladder import Rung, as_rows, ladder
from distill.sweep.grid import Row
from teachers.load import load_teacher
from teachers.protocol import Teacher
from tests.fixtures.records import agent_scores

REFERENCE = {"teacher": agent_scores("teacher", 20.0, 0.5), "random": agent_scores("random", -20.0)}
T2 = 4.302652729911275
"""Student's t, two degrees of freedom, 97.5 %."""


def row(network: str, seed: int, precision: str, score: float, **more: object) -> Row:
    told = {"network": network, "seed": seed, "precision": precision, "score": score, "score_low": score - 1}
    told |= {"score_high": score + 2, "weights": 100, "bytes": 400, "int8_kl": "", "int8_action_error": "", **more}
    return {name: str(value) for name, value in told.items()}


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("pong")


def test_one_seed_has_the_interval_of_its_games(teacher: Teacher) -> None:
    top, one = ladder([row("a", 1, "float32", 10.0)], REFERENCE, teacher, {})
    assert (top.name, top.weights, top.score, top.score_low, top.score_high) == ("teacher", 1_687_206, 20, 19.5, 20.5)
    assert (top.share, top.share_low, top.share_high) == (1, 39.5 / 40, 40.5 / 40)
    assert 4 * top.weights < top.bytes < 4 * top.weights + 2_000
    assert (one.score, one.score_low, one.score_high, one.seeds) == (10, 9, 12, 1)
    assert (one.share, one.share_low, one.share_high) == (0.75, 29 / 40, 32 / 40)
    assert (one.weights, one.weights_share, one.bytes) == (100, 100 / 1_687_206, 400)
    assert (one.int8_cost, one.int8_kl, one.pytorch_us, one.onnxruntime_us) == (None,) * 4


def test_several_seeds_have_students_interval(teacher: Teacher) -> None:
    rows = [row("a", seed, "float32", score) for seed, score in ((1, 8.0), (2, 10.0), (3, 12.0))]
    _, one = ladder(rows, REFERENCE, teacher, {})
    half = T2 * 2 / 3**0.5
    assert (one.score, one.score_low, one.score_high) == pytest.approx((10, 10 - half, 10 + half))
    assert one.share_low == pytest.approx((30 - half) / 40)
    assert one.seeds == 3


def test_int8_is_compared_seed_by_seed(teacher: Teacher) -> None:
    """A seed that has not played in float32 yet costs nothing."""
    rows = [row("a", seed, "float32", score) for seed, score in ((1, 8.0), (2, 10.0), (3, 12.0))]
    small = [row("a", seed, "int8", score, int8_kl=0.01 * seed, int8_action_error=0.1) for seed, score in
             ((1, 7.0), (2, 9.0), (3, 10.0), (4, 50.0))]  # fmt: skip
    _, _, one = ladder([*rows, *small], REFERENCE, teacher, {})
    half = T2 * (1 / 3) ** 0.5 / 3**0.5
    costs = (one.int8_cost, one.int8_cost_low, one.int8_cost_high)
    assert costs == pytest.approx((4 / 3, 4 / 3 - half, 4 / 3 + half))
    assert (one.int8_kl, one.int8_action_error) == pytest.approx((0.025, 0.1))
    (_, single) = ladder([small[0]], REFERENCE, teacher, {})
    assert (single.int8_cost, single.int8_cost_low) == (None, None)
    (_, _, pair) = ladder([rows[0], small[0]], REFERENCE, teacher, {})
    assert (pair.int8_cost, pair.int8_cost_low) == (1.0, None)


def test_rungs_are_in_the_order_of_the_rows(teacher: Teacher) -> None:
    cells = (("b", 1, "float32"), ("b", 1, "int8"), ("a", 1, "float32"), ("b", 2, "int8"))
    rows = [row(network, seed, precision, 1.0) for network, seed, precision in cells]
    assert [one.name for one in ladder(rows, REFERENCE, teacher, {})] == ["teacher", "b", "b int8", "a"]


def test_times_are_those_of_the_same_agent(teacher: Teacher) -> None:
    speed = {
        ("a", "float32", "pytorch"): {"microseconds": "3", "low": "2", "high": "5"},
        ("a", "int8", "onnxruntime"): {"microseconds": "1", "low": "0.5", "high": "2"},
    }
    _, whole, small = ladder([row("a", 1, "float32", 1.0), row("a", 1, "int8", 1.0)], REFERENCE, teacher, speed)
    assert (whole.pytorch_us, whole.pytorch_us_low, whole.pytorch_us_high, whole.onnxruntime_us) == (3, 2, 5, None)
    assert (small.pytorch_us, small.onnxruntime_us, small.onnxruntime_us_high) == (None, 1, 2)


def test_a_teacher_no_better_than_random_gives_no_share(teacher: Teacher) -> None:
    reference = {**REFERENCE, "teacher": agent_scores("teacher", -20.0)}
    rungs = ladder([row("a", 1, "float32", 1.0)], reference, teacher, {})
    assert [one.share for one in rungs] == [None, None]


def test_rows_are_the_fields(teacher: Teacher) -> None:
    (text, _) = as_rows(ladder([row("a", 1, "float32", 1.0)], REFERENCE, teacher, {}))
    assert list(text) == [field.name for field in fields(Rung)]
    assert (text["network"], text["score"], text["int8_cost"]) == ("teacher", "20.0", "")
