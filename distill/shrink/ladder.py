"""The ladder: a rung for every network and precision, its seeds together, and the teacher on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from safetensors.torch import save

from distill.figures.statistics import t_interval
from distill.networks.nets import count_parameters, policy_part
from distill.records.scores import AgentScores
from distill.shrink.settings import FLOAT32, INT8
from distill.shrink.speed import ONNXRUNTIME, PYTORCH, TEACHER, Key
from distill.sweep.grid import Row
from teachers.protocol import Teacher

Interval = tuple[float, float, float]
"""Mean and the ends of its 95 % interval."""


@dataclass(frozen=True)
class Rung:
    """A line of the table; None for what was not measured."""

    network: str
    """Its name, or ``teacher``."""
    precision: str
    """float32, or int8 weights and activations."""
    weights: int
    """From pixels to logits; 0 for a teacher that is a rule."""
    weights_share: float | None
    """Of the teacher's; None where that has none."""
    bytes: int
    """On disk: weights as safetensors in float32, the ONNX file in int8; 0 where there are no weights."""
    seeds: int
    """Trainings."""
    score: float
    """Mean return of whole games."""
    score_low: float
    """End of its 95 % interval: over seeds, by Student's t; of a single agent over its games, by bootstrap."""
    score_high: float
    """Its other end."""
    share: float | None
    """(score - random) / (teacher - random), both played here; None where the teacher is no better than random."""
    share_low: float | None
    """Of ``score_low``."""
    share_high: float | None
    """Of ``score_high``."""
    int8_cost: float | None
    """int8 only: score in float32 minus score in int8, seed by seed."""
    int8_cost_low: float | None
    """End of its interval over seeds."""
    int8_cost_high: float | None
    """Its other end."""
    int8_kl: float | None
    """int8 only: KL(float32 || int8) in nats, on the student's own states."""
    int8_action_error: float | None
    """int8 only: share of these states whose most likely actions differ."""
    pytorch_us: float | None
    """Median microseconds of a call at batch 1 on one thread, by PyTorch."""
    pytorch_us_low: float | None
    """A quarter of the calls are below."""
    pytorch_us_high: float | None
    """A quarter of the calls are above."""
    onnxruntime_us: float | None
    """The same by onnxruntime."""
    onnxruntime_us_low: float | None
    """A quarter of the calls are below."""
    onnxruntime_us_high: float | None
    """A quarter of the calls are above."""

    @property
    def name(self) -> str:
        """As people read it."""
        return self.network if self.precision == FLOAT32 else f"{self.network} {self.precision}"


def ladder(
    rows: Sequence[Row], reference: Mapping[str, AgentScores], teacher: Teacher, speed: Mapping[Key, Row]
) -> list[Rung]:
    """The teacher, and a rung for every network and precision, in the order of the rows.

    Args:
        rows: finished cells, as text.
        reference: scores of ``teacher`` and ``random``.
        teacher: who taught.
        speed: rows of speed.csv by agent.
    """
    top, low = reference[TEACHER], reference["random"].mean
    span = top.mean - low
    weights = count_parameters(policy_part(teacher.net))

    def rung(network: str, precision: str, count: int, size: int, score: Interval, mine: Sequence[Row]) -> Rung:
        shares = [(value - low) / span if span > 0 else None for value in score]
        cost = _cost(mine, rows) if precision == INT8 else (None, None, None)
        times = [_speed(speed.get((network, precision, runtime))) for runtime in (PYTORCH, ONNXRUNTIME)]
        named = {
            **_ends("score", score), **_ends("share", shares), **_ends("int8_cost", cost),
            **_ends("pytorch_us", times[0]), **_ends("onnxruntime_us", times[1]),
            **{name: _mean(mine, name) for name in ("int8_kl", "int8_action_error")},
        }  # fmt: skip
        seeds = max(1, len(mine))
        share = count / weights if weights else None
        return Rung(network, precision, count, share, size, seeds, **named)

    rungs = [rung(TEACHER, FLOAT32, weights, _policy_bytes(teacher), (top.mean, *top.ci95), [])]
    for network, precision in dict.fromkeys((row["network"], row["precision"]) for row in rows):
        mine = [row for row in rows if (row["network"], row["precision"]) == (network, precision)]
        rungs.append(rung(network, precision, int(mine[0]["weights"]), int(mine[0]["bytes"]), _score(mine), mine))
    return rungs


def as_rows(rungs: Sequence[Rung]) -> list[Row]:
    """As text, by the names of the fields; nothing for None."""
    names = [field.name for field in fields(Rung)]
    return [{name: "" if (value := getattr(one, name)) is None else str(value) for name in names} for one in rungs]


def _ends(name: str, values: Sequence[float | None]) -> dict[str, Any]:
    """A figure and the ends of its interval, by the names of their fields."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _score(rows: Sequence[Row]) -> Interval:
    if len(rows) > 1:
        return t_interval([float(row["score"]) for row in rows])
    return float(rows[0]["score"]), float(rows[0]["score_low"]), float(rows[0]["score_high"])


def _cost(mine: Sequence[Row], rows: Sequence[Row]) -> tuple[float | None, float | None, float | None]:
    """What int8 loses, of the seeds that have played in both."""
    whole = {(row["network"], row["seed"]): float(row["score"]) for row in rows if row["precision"] == FLOAT32}
    pairs = [(whole.get((row["network"], row["seed"])), float(row["score"])) for row in mine]
    costs = [before - after for before, after in pairs if before is not None]
    if len(costs) < 2:
        return (costs[0] if costs else None), None, None
    return t_interval(costs)


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [float(row[name]) for row in rows if row.get(name)]
    return float(np.mean(values)) if values else None


def _speed(row: Row | None) -> tuple[float | None, float | None, float | None]:
    if row is None or not row["microseconds"]:
        return None, None, None
    return float(row["microseconds"]), float(row["low"]), float(row["high"])


def _policy_bytes(teacher: Teacher) -> int:
    """What its weights from pixels to logits take as safetensors, as a student's file does."""
    weights = policy_part(teacher.net).state_dict()
    return len(save({name: tensor.contiguous().clone() for name, tensor in weights.items()})) if weights else 0
