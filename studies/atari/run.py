"""Record, train, test and play: each step skips what is done; finished rows end up in the results folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.api import (
    CollectConfig,
    Config,
    UserError,
    collect,
    evaluate,
    run_grid,
    sweep,
    validated,
)
from distill.sweep.grid import Cell, Row, read_rows, write_rows
from studies.atari.choose import METHODS, chosen, compared, method, own_best
from studies.atari.plan import SEED, STATES, UNTIL, WEIGHT, Recording, Scale, grid, layered, part_config, same_steps
from studies.atari.test_games import TestGames


def record(game: str, recording: Recording, scale: Scale) -> None:
    """Games of the bundled teacher, sampled actions, with two directions of derivatives a state."""
    config = Config(
        env=game,
        device=scale.device,
        seed=recording.seed,
        collect=CollectConfig(
            out=f"{scale.data}/{game}{recording.suffix}", states=recording.states, num_envs=recording.num_envs, k=2
        ),
    )  # fmt: skip
    collect(validated(config))


def train_part(part: str, game: str, cells: Sequence[Cell], scale: Scale) -> list[Row]:
    """Students of a part, one row each, with figures on validation games."""
    return sweep(validated(part_config(part, game, scale)), cells)


def train_same_steps(game: str, scale: Scale, out: Path) -> None:
    """The grid's choice of Sobolev with as many steps as plain distillation has."""
    best = chosen(_best_of_grid(game, scale, out), grid(scale, game))
    train_part("steps", game, same_steps(scale, best), scale)


def score(game: str, scale: Scale, out: Path) -> list[Row]:
    """Score what the tables compare on test games, and on perturbed pixels of these."""
    _best_of_grid(game, scale, out)  # the grid is finished
    rows = [("grid", row) for row in compared(finished("grid", game, scale, out))]
    rows += [("steps", row) for row in finished("steps", game, scale, out)]
    games = functools.cache(lambda: TestGames(game, scale))
    facts = {row["run"]: row for _, row in rows}

    def run(cell: Cell) -> dict[str, Any]:
        return games().figures(facts[cell["run"]], Path(scale.runs) / cell["part"] / game / cell["run"])

    cells = [{"part": part, "run": row["run"]} for part, row in rows]
    return run_grid(cells, run, rows_of("test", game, scale), say=print)


def train_layers(game: str, scale: Scale) -> list[Row]:
    """Students with and without their teacher's first layer, each with figures on test games."""
    rows = {row["run"]: row for row in train_part("layers", game, layered(scale), scale)}
    games = functools.cache(lambda: TestGames(game, scale))

    def run(cell: Cell) -> dict[str, Any]:
        row = rows[cell["run"]]
        return {**row, **games().figures(row, Path(scale.runs) / "layers" / game / row["run"])}

    return run_grid([{"run": name} for name in rows], run, rows_of("tested-layers", game, scale), say=print)


def play(game: str, scale: Scale, out: Path) -> list[Row]:
    """Whole games of the teacher and of the grid's best students at some percentages, on two protocols."""
    rows = _best_of_grid(game, scale, out)
    shares = {str(scale.share(percentage)) for percentage in scale.played}
    agents = {"teacher": "teacher"}
    rows = [row for row in rows if row[STATES] in shares and method(row) in METHODS[:2]]
    agents |= {row["run"]: f"{scale.runs}/grid/{game}/{row['run']}" for row in rows}
    facts = {row["run"]: row for row in rows}

    def run(cell: Cell) -> dict[str, Any]:
        config = part_config("play", game, scale)
        folder = f"{scale.runs}/play/{game}/{cell['protocol']}__{cell['agent']}"
        changes = {"agents": [f"agent={agents[cell['agent']]}"], "protocol": cell["protocol"], "out": folder}
        settings = dataclasses.replace(config.evaluate, **changes)
        found = evaluate(validated(dataclasses.replace(config, evaluate=settings)))["agents"]["agent"]
        mine = facts.get(cell["agent"], {})
        return {
            **{name: mine.get(name) for name in (STATES, WEIGHT, UNTIL, SEED)},
            "mean": found["mean"], "low": found["ci95"][0], "high": found["ci95"][1],
            "human_normalized": found["human_normalized"],
            "returns": " ".join(f"{score:g}" for score in found["returns"]),
        }  # fmt: skip

    cells = [{"agent": agent, "protocol": protocol} for protocol in ("zoo", "machado") for agent in agents]
    return run_grid(cells, run, rows_of("play", game, scale), say=print)


KEYS = {"play": ("agent", "protocol"), "test": ("part", "run"), "ideas": ("idea", SEED)}
"""What tells the rows of a part apart, where it is not the run."""


def finished(part: str, game: str, scale: Scale, out: Path) -> list[Row]:
    """Rows of a part: those kept in ``out``, and over them this machine's, which are kept there from now on."""
    kept = out / f"{part}-{game}.csv"
    made = read_rows(rows_of(part, game, scale))
    names = KEYS.get(part, ("run",))
    rows = {tuple(row[name] for name in names): row for row in [*read_rows(kept), *made]}
    if made:
        write_rows(kept, list(rows.values()))
    return list(rows.values())


def with_tests(part: str, game: str, scale: Scale, out: Path) -> list[Row]:
    """Rows of a part, those of students that were tested with their figures on test games."""
    found = {row["run"]: row for row in finished("test", game, scale, out) if row["part"] == part}
    return [{**row, **found.get(row["run"], {})} for row in finished(part, game, scale, out)]


def _best_of_grid(game: str, scale: Scale, out: Path) -> list[Row]:
    """Both methods' best rows, at every percentage and of every seed."""
    best = own_best(finished("grid", game, scale, out))
    if len(best) < len(METHODS) * len(scale.percentages) * len(scale.seeds):
        raise UserError(f"the grid of {game} is not finished; run it with --parts grid --games {game}")
    return best


def rows_of(part: str, game: str, scale: Scale) -> Path:
    """Where a part writes its rows on the machine that runs it."""
    return Path(scale.runs) / part / game / "rows.csv"
