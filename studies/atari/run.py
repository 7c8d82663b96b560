"""Record, train, perturb and play: each step skips what is done; finished rows end up in the results folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.api import (
    CollectConfig,
    Config,
    Dataset,
    UserError,
    collect,
    evaluate,
    load_student,
    run_grid,
    sweep,
    validated,
)
from distill.sweep.grid import Cell, Row, read_rows, write_rows
from distill.sweep.test_set import TEST_GAMES
from distill.train.settings import TrainRun
from studies.atari.choose import METHODS, chosen, own_best
from studies.atari.perturb import Index, agreement, chosen_states
from studies.atari.plan import SEED, STATES, WEIGHT, Recording, Scale, grid, longer, part_config
from studies.atari.ratios import game_columns


def record(game: str, recording: Recording, scale: Scale) -> None:
    """Games of the bundled teacher, sampled actions; the same games whatever is stored of the derivatives."""
    config = Config(
        env=game,
        device="cpu",
        seed=recording.seed,
        collect=CollectConfig(
            out=f"{scale.data}/{game}{recording.suffix}", states=recording.states, num_envs=recording.num_envs,
            jacobian=recording.jacobian, space=recording.space, k=2,
        ),
    )  # fmt: skip
    collect(validated(config))


def train_part(part: str, game: str, cells: Sequence[Cell], scale: Scale) -> list[Row]:
    """Students of a part, one row each: figures on validation and test games, and on perturbed test pixels."""
    config = validated(part_config(part, game, scale))

    def after(_: TrainRun, run: Path) -> Mapping[str, Any]:
        perturbed = agreement(load_student(run).net, *_test_states(str(config.sweep.data), scale.perturbed))
        return {**game_columns(read_rows(run / TEST_GAMES)), **perturbed}

    return sweep(config, cells, after)


@functools.cache
def _test_states(folder: str, count: int) -> tuple[Dataset, Index]:
    """The test games, read when the first student is to be scored, and which of their states are used."""
    test = Dataset(folder)
    return test, chosen_states(test, count)


def train_longer(game: str, scale: Scale, out: Path) -> None:
    """What the grid's choice of plain distillation does with more time."""
    best = chosen(_best_of_grid(game, scale, out), grid(scale, game))
    train_part("longer", game, longer(scale, game, best), scale)


def play(game: str, scale: Scale, out: Path) -> list[Row]:
    """Whole games of the teacher and of the grid's best students at some percentages, on two protocols."""
    rows = _best_of_grid(game, scale, out)
    shares = {str(scale.share(percentage)) for percentage in scale.played}
    agents = {"teacher": "teacher"}
    agents |= {row["run"]: f"{scale.runs}/grid/{game}/{row['run']}" for row in rows if row[STATES] in shares}
    facts = {row["run"]: row for row in rows}

    def run(cell: Cell) -> dict[str, Any]:
        config = part_config("play", game, scale)
        folder = f"{scale.runs}/play/{game}/{cell['protocol']}__{cell['agent']}"
        changes = {"agents": [f"agent={agents[cell['agent']]}"], "protocol": cell["protocol"], "out": folder}
        settings = dataclasses.replace(config.evaluate, **changes)
        found = evaluate(validated(dataclasses.replace(config, evaluate=settings)))["agents"]["agent"]
        mine = facts.get(cell["agent"], {})
        return {
            **{name: mine.get(name) for name in (STATES, WEIGHT, SEED)},
            "mean": found["mean"], "low": found["ci95"][0], "high": found["ci95"][1],
            "human_normalized": found["human_normalized"],
            "returns": " ".join(f"{score:g}" for score in found["returns"]),
        }  # fmt: skip

    cells = [{"agent": agent, "protocol": protocol} for protocol in ("zoo", "machado") for agent in agents]
    return run_grid(cells, run, rows_of("play", game, scale), say=print)


def finished(part: str, game: str, scale: Scale, out: Path) -> list[Row]:
    """Rows of a part: those kept in ``out``, and over them this machine's, which are kept there from now on."""
    kept = out / f"{part}-{game}.csv"
    made = read_rows(rows_of(part, game, scale))
    names = ("agent", "protocol") if part == "play" else ("run",)
    rows = {tuple(row[name] for name in names): row for row in [*read_rows(kept), *made]}
    if made:
        write_rows(kept, list(rows.values()))
    return list(rows.values())


def _best_of_grid(game: str, scale: Scale, out: Path) -> list[Row]:
    """Both methods' best rows, at every percentage and of every seed."""
    best = own_best(finished("grid", game, scale, out))
    if len(best) < len(METHODS) * len(scale.percentages) * len(scale.seeds):
        raise UserError(f"the grid of {game} is not finished; run it with --parts grid --games {game}")
    return best


def rows_of(part: str, game: str, scale: Scale) -> Path:
    """Where a part writes its rows on the machine that runs it."""
    return Path(scale.runs) / part / game / "rows.csv"
