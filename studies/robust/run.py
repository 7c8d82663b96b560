"""Record, train, attack and play: each step skips what is done, a row for every cell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.api import attack, collect, evaluate, load_student, run_grid, train, validated
from distill.networks.nets import count_parameters
from distill.students.folder import is_student
from distill.sweep.grid import Cell, Row, read_rows, write_rows
from studies.robust import plan
from studies.robust.plan import KINDS, METHODS, SIZES, TEACHER, Scale

PARTS = {"train": ("kind", "seed"), "attack": ("kind", "seed", "method", "eps"), "play": ("kind", "seed", "attack")}
"""What tells the rows of a part apart."""


def record(game: str, scale: Scale) -> None:
    """Games of the teacher and of a first student, labelled by the teacher; and test games of both."""
    collect(validated(plan.recording(game, scale, test=False)))
    first = plan.first(game, scale)
    student = first.train.out
    if not is_student(Path(student)):  # its data grows by what it plays, and then is not its own any more
        train(validated(first))
    collect(validated(plan.recording(game, scale, test=False, actor=student)))
    for actor in (TEACHER, student):
        collect(validated(plan.recording(game, scale, test=True, actor=actor)))


def run_part(part: str, game: str, seed: int, scale: Scale, out: Path) -> None:
    """All cells of a part that belong to a seed; its rows are kept in ``out``."""

    def run(cell: Cell) -> Mapping[str, Any]:
        return {"train": trained, "attack": attacked, "play": played}[part](cell, game, scale)

    wanted = [cell for cell in cells(part, seed, scale) if part == "train" or is_there(cell, game, scale)]
    run_grid(wanted, run, rows_of(part, game, scale), say=print)
    finished(part, game, scale, out)


def cells(part: str, seed: int, scale: Scale) -> list[Cell]:
    """What is done for a seed."""
    if part == "train":
        return [{"kind": kind, "seed": seed} for kind in KINDS]
    if part == "play":
        kinds = [TEACHER, *scale.played]
        return [{"kind": kind, "seed": seed, "attack": how} for kind in kinds for how in ("none", "pgd")]
    ways = [("none", 0.0), *((name, eps) for name in METHODS for eps in (SIZES if name != "swarm" else [0.0]))]
    return [
        {"kind": kind, "seed": seed, "method": name, "eps": eps} for kind in (TEACHER, *KINDS) for name, eps in ways
    ]


def is_there(cell: Cell, game: str, scale: Scale) -> bool:
    """Whether the agent of a cell is the teacher, or was trained."""
    return cell["kind"] == TEACHER or is_student(Path(plan.run_of(game, scale, cell["kind"], cell["seed"])))


def trained(cell: Cell, game: str, scale: Scale) -> Mapping[str, Any]:
    """Train a student."""
    student = load_student(train(validated(plan.training(game, scale, cell["kind"], cell["seed"]))))
    told = student.training
    size = (student.folder / "model.safetensors").stat().st_size
    return {"val_kl": told.metrics["val_kl"], "val_action_error": told.metrics["val_action_error"],
            "best_step": told.best_step, "seconds": round(told.train_seconds, 1),
            "weights": count_parameters(student.net), "bytes": size}  # fmt: skip


def attacked(cell: Cell, game: str, scale: Scale) -> Mapping[str, Any]:
    """An agent's decisions on test states."""
    method = None if cell["method"] == "none" else cell["method"]
    rows = attack(validated(plan.attacking(game, scale, cell["kind"], cell["seed"], method, cell["eps"] or plan.EPS)))
    row = next(row for row in rows if row["method"] == method)
    return {name: row[name] for name in ("action_error", "kl", "flips", "changed", "seconds")}


def played(cell: Cell, game: str, scale: Scale) -> Mapping[str, Any]:
    """An agent's games."""
    how = None if cell["attack"] == "none" else cell["attack"]
    found = evaluate(validated(plan.playing(game, scale, cell["kind"], cell["seed"], how)))["agents"]["agent"]
    return {"mean": found["mean"], "low": found["ci95"][0], "high": found["ci95"][1],
            "returns": " ".join(f"{score:g}" for score in found["returns"])}  # fmt: skip


def finished(part: str, game: str, scale: Scale, out: Path) -> list[Row]:
    """Rows of a part: those kept in ``out``, and over them this machine's, which are kept there from now on."""
    kept, made = out / f"{part}-{game}.csv", read_rows(rows_of(part, game, scale))
    rows = {tuple(row[name] for name in PARTS[part]): row for row in [*read_rows(kept), *made]}
    if made:
        write_rows(kept, list(rows.values()))
    return list(rows.values())


def rows_of(part: str, game: str, scale: Scale) -> Path:
    """Where a part writes its rows on the machine that runs it."""
    return Path(scale.runs) / game / f"{part}.csv"
