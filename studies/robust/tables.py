"""Rows to tables: what attacks do to each kind of agent, on states and in play."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.envs.games import REFERENCE_SCORES
from distill.sweep.grid import Row
from studies.common import markdown, mean_interval
from studies.robust.plan import EPS, KINDS, METHODS, SIZES, TEACHER, Scale

TITLES = {TEACHER: "teacher", **{name: kind.title for name, kind in KINDS.items()}}


def sections(rows: dict[str, list[Row]], game: str, scale: Scale) -> list[str]:
    """Tables of one game; those without rows are left out."""
    found = []
    if rows["train"]:
        found += ["### Students", f"{scale.steps:,} steps of 64 states each.", students(rows["train"])]
    if rows["attack"]:
        about = (
            f"Share of {scale.attacked} test states, %, where the agent's best action is not the teacher's at clean "
            "pixels, by attack and its size in gray levels."
        )
        found += ["### On states", about, on_states(rows["attack"])]
    if rows["play"]:
        about = (
            f"{scale.games} whole games an agent and seed; pgd at {EPS:g} gray levels on every step. Kept is the "
            "attacked score as a share of the agent's own clean score, both above random play; the last columns are "
            "shares of the teacher's."
        )
        found += ["### In play", about, in_play(rows["play"], game)]
    return found


def students(rows: Sequence[Row]) -> str:
    """Fidelity on held-out games, and size; seconds are in the rows, and are those of whatever else the machine did."""
    lines = []
    for kind in _kinds(rows):
        mine = [row for row in rows if row["kind"] == kind]
        error = _interval([100 * float(row["val_action_error"]) for row in mine])
        lines.append([TITLES[kind], _interval([float(row["val_kl"]) for row in mine]), error,
                      f"{int(mine[0]['weights']):,}", str(len(mine))])  # fmt: skip
    return markdown(["student", "held-out KL", "action error, %", "weights", "seeds"], lines)


def on_states(rows: Sequence[Row]) -> str:
    """Disagreement with the teacher at clean pixels."""
    ways = [("none", 0.0), *((name, eps) for name in METHODS for eps in (SIZES if name != "swarm" else (0.0,)))]
    kinds, lines = _kinds(rows), []
    for name, eps in ways:
        line = [name if eps == 0 else f"{name}, {eps:g}"]
        for kind in kinds:
            values = [100 * float(row["action_error"]) for row in rows
                      if (row["kind"], row["method"], float(row["eps"])) == (kind, name, eps)]  # fmt: skip
            line.append(_interval(values))
        lines.append(line)
    return markdown(["attack", *(TITLES[kind] for kind in kinds)], lines)


def in_play(rows: Sequence[Row], game: str) -> str:
    """Scores clean and under attack, over seeds that have both."""
    scores = {(row["kind"], row["seed"], row["attack"]): float(row["mean"]) for row in rows}
    chance, lines = REFERENCE_SCORES[game][0], []

    def pairs(kind: str) -> list[tuple[float, float]]:
        seeds = sorted({seed for name, seed, _ in scores if name == kind})
        keys = [((kind, seed, "none"), (kind, seed, "pgd")) for seed in seeds]
        return [(scores[a] - chance, scores[b] - chance) for a, b in keys if a in scores and b in scores]

    def kept(kind: str) -> float:
        return float(np.mean([b for _, b in pairs(kind)]) / np.mean([a for a, _ in pairs(kind)]))

    for kind in _kinds(rows):
        both = pairs(kind)
        if not both:
            continue
        clean, under = [a + chance for a, _ in both], [b + chance for _, b in both]
        own = _interval([100 * b / a for a, b in both if a > 0])
        line = [TITLES[kind], _interval(clean), _interval(under), own]
        if pairs(TEACHER):
            of_clean = np.mean([a for a, _ in both]) / np.mean([a for a, _ in pairs(TEACHER)])
            times = kept(kind) / kept(TEACHER) if kept(TEACHER) > 0 else float("inf")
            line += [f"{of_clean:.0%}".replace("%", " %"), f"{times:.2g}" if np.isfinite(times) else "–"]
        else:
            line += ["–", "–"]
        lines.append([*line, str(len(both))])
    head = ["agent", "clean score", "attacked score", "kept, %", "clean: of teacher", "kept: times teacher", "seeds"]
    return markdown(head, lines)


def _kinds(rows: Sequence[Row]) -> list[str]:
    """Those that have rows, in their order."""
    there = {row["kind"] for row in rows}
    return [kind for kind in TITLES if kind in there]


def _interval(values: Sequence[float]) -> str:
    return mean_interval(values).text() if values else "–"
