"""A sweep trains every cell once, whatever happens in between, and says beforehand what cannot work."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import collect, sweep
from distill.dataset import large
from distill.dataset.games import some_whole_games, whole_games
from distill.dataset.reader import Dataset
from distill.dataset.windowed import WindowedDataset
from distill.errors import DivergedError, UserError
from distill.figures.fidelity import measure
from distill.figures.figure import OWN, Figure, Outputs, sums_of
from distill.students.folder import load_student
from distill.sweep import run as module
from distill.sweep.cells import cell_name, typed_cells
from distill.sweep.grid import Cell, finished, read_rows, unfinished, write_rows
from distill.sweep.run import DATA_COLUMNS
from distill.sweep.test_set import TEST_GAMES
from distill.train import lesson, loop
from distill.train.settings import TrainRun
from distill.train.setup import open_dataset

GRID = {"train.states": [100, 200], "seed": [1, 2]}
NAMES = ["states-100__seed-1", "states-100__seed-2", "states-200__seed-1", "states-200__seed-2"]
FIGURES = [figure.name for figure in OWN]
Quick = Callable[..., Config]


@pytest.fixture(scope="session")
def test_data(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two whole games by chance, short ones, and two fragments: other games than ``pong_data``. Read only."""
    out = tmp_path_factory.mktemp("pong") / "test"
    wild = {"states": 2200, "num_envs": 2, "shard_states": 512, "behaviour": "epsilon", "epsilon": 1.0}
    collect(make_config(seed=7, collect={"out": str(out), **wild}))
    return out


@pytest.fixture
def quick(make_config: Callable[..., Config], pong_data: Path, tmp_path: Path) -> Quick:
    """``quick(GRID, sweep={...}, train={...})``: eight steps of a very small student in every cell."""

    def make(grid: dict[str, list[Any]] = GRID, **changes: Any) -> Config:
        train = {"data": str(pong_data), "steps": 8, "batch_size": 16, "warmup": 2, "val_every": 4, "val_states": 20,
                 "checkpoint_every": 2, "learning_rate": 0.01, **changes.pop("train", {})}  # fmt: skip
        settings = {"grid": grid, "out": str(tmp_path / "sweep"), **changes.pop("sweep", {})}
        student = {"convs": [(4, 8, 4)], "hidden": [8]}
        return make_config(student=student, train=train, sweep=settings, **changes)

    return make


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that training was begun for, in turn."""
    names: list[str] = []

    def noted(config: Config) -> Path:
        names.append(Path(config.train.out).name)
        return loop.train(config)

    monkeypatch.setattr(module, "train", noted)
    return names


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """``cut(n)``: the n-th optimizer step from now on raises; ``cut(None)`` ends it."""
    make_step = lesson.make_step

    def at(steps: int | None) -> None:
        count = iter(range(10**9))

        def cutting(*given: Any, **options: Any) -> Any:
            gradient = make_step(*given, **options)

            def compute(*arguments: Any) -> Any:
                if next(count) == steps:
                    raise KeyboardInterrupt
                return gradient(*arguments)

            return compute

        monkeypatch.setattr(lesson, "make_step", cutting)

    return at


def contents(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_cell_is_a_run_and_a_row(quick: Quick, tmp_path: Path, trained: list[str]) -> None:
    rows = sweep(quick())
    assert rows == read_rows(tmp_path / "sweep" / "rows.csv")
    assert [row["run"] for row in rows] == trained == NAMES
    assert [(row["train.states"], row["seed"]) for row in rows] == [(s, n) for s in ("100", "200") for n in ("1", "2")]
    for row in rows:
        run = tmp_path / "sweep" / row["run"]
        facts = json.loads((run / "student" / "student.json").read_text())
        asked = yaml.safe_load((run / "config.yaml").read_text())
        assert (str(asked["train"]["states"]), str(asked["seed"])) == (row["train.states"], row["seed"])
        assert {f"val_{name}": float(row[f"val_{name}"]) for name in FIGURES} == facts["metrics"]
        assert (row["steps"], row["best_step"]) == ("8", str(facts["best_step"]))
        assert float(row["train_seconds"]) == facts["train_seconds"]
        assert {row[f"test_{name}"] for name in FIGURES} == {""}
        assert "score" not in row
    assert len({row["val_kl"] for row in rows}) == 4


def test_a_cell_is_what_training_alone_gives(quick: Quick, tmp_path: Path) -> None:
    sweep(quick({"objective.jacobian_weight": [0, 0.1]}))
    alone = loop.train(quick({}, objective={"jacobian_weight": 0.1}, train={"out": str(tmp_path / "alone")}))
    weights = "student/model.safetensors"
    cells = [tmp_path / "sweep" / f"jacobian_weight-{weight}" for weight in ("0", "0.1")]
    same = [(cell / weights).read_bytes() == (alone / weights).read_bytes() for cell in cells]
    assert same == [False, True]


def test_a_killed_sweep_goes_on_in_the_middle_of_a_cell(
    quick: Quick, tmp_path: Path, trained: list[str], cut: Callable[[int | None], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole = sweep(quick(sweep={"out": str(tmp_path / "whole")}))
    trained.clear()
    cut(8 + 5)
    with pytest.raises(KeyboardInterrupt):
        sweep(quick())
    folder = tmp_path / "sweep"
    assert "interrupted at step 5; saved. The same command continues." in capsys.readouterr().out
    assert (trained, len(read_rows(folder / "rows.csv"))) == (NAMES[:2], 1)
    finished = contents(folder / NAMES[0])
    cut(None)
    rows = sweep(quick())
    assert trained == NAMES[:2] + NAMES[1:]
    assert contents(folder / NAMES[0]) == finished
    assert f"{NAMES[1]}: continuing at step 5" in capsys.readouterr().out.replace("\n", "")
    assert [row["val_kl"] for row in rows] == [row["val_kl"] for row in whole]


def test_a_finished_sweep_is_left_alone(quick: Quick, tmp_path: Path, trained: list[str]) -> None:
    rows = sweep(quick())
    del trained[:]
    before = contents(tmp_path / "sweep")
    assert sweep(quick()) == rows
    after = contents(tmp_path / "sweep")
    assert trained == []
    assert {path for path in after if before.get(path) != after[path]} <= {
        tmp_path / "sweep" / name for name in ("config.yaml", "command.txt", "versions.json", "sweep.lock")
    }


def test_more_values_train_only_the_new_cells(quick: Quick, tmp_path: Path, trained: list[str]) -> None:
    first = sweep(quick())
    rows = sweep(quick({"train.states": [100, 200], "seed": [2, 3]}))
    assert trained == [*NAMES, "states-100__seed-3", "states-200__seed-3"]
    assert [row["seed"] for row in rows] == ["2", "3"] * 2
    assert [rows[0], rows[2]] == [first[1], first[3]]
    assert len(read_rows(tmp_path / "sweep" / "rows.csv")) == 6


def test_a_grid_may_be_written_in_another_order(
    quick: Quick, tmp_path: Path, trained: list[str], cut: Callable[[int | None], None]
) -> None:
    cut(8 + 5)
    with pytest.raises(KeyboardInterrupt):
        sweep(quick())
    cut(None)
    written = yaml.safe_load((tmp_path / "sweep" / "config.yaml").read_text())["sweep"]["grid"]
    assert (written, list(written)) == (GRID, list(GRID))
    rows = sweep(quick(dict(reversed(GRID.items()))))
    assert sorted(trained) == sorted([*NAMES, NAMES[1]])
    assert [row["run"] for row in rows] == [NAMES[i] for i in (0, 2, 1, 3)]


def test_cells_may_be_given_and_need_not_be_a_grid(quick: Quick, trained: list[str]) -> None:
    cells: list[Cell] = [{"objective.jacobian_weight": 0, "seed": 1}, {"objective.jacobian_weight": 0.1, "seed": 2}]
    rows = sweep(quick({}), cells)
    assert trained == ["jacobian_weight-0__seed-1", "jacobian_weight-0.1__seed-2"]
    assert [float(row["objective.jacobian_weight"]) for row in rows] == [0, 0.1]
    assert sweep(quick({}), [{name: float(v) if v == 0 else v for name, v in cell.items()} for cell in cells]) == rows
    assert len(trained) == 2


def test_after_adds_columns_and_sees_the_cell_and_its_finished_run(quick: Quick, tmp_path: Path) -> None:
    def after(config: Config, run: Path) -> dict[str, Any]:
        return {"twice": 2 * config.seed, "actions": load_student(run).net.num_actions, "nothing": None}

    rows = sweep(quick({"seed": [1, 2]}), after=after)
    assert [(row["twice"], row["actions"], row["nothing"]) for row in rows] == [("2", "6", ""), ("4", "6", "")]
    assert read_rows(tmp_path / "sweep" / "rows.csv") == rows


def test_a_column_that_is_there_already_is_not_written_over(quick: Quick) -> None:
    with pytest.raises(ValueError, match="val_kl"):
        sweep(quick({"seed": [1]}), after=lambda config, run: {"val_kl": 0})


def test_fidelity_on_test_data(quick: Quick, test_data: Path, tmp_path: Path) -> None:
    rows = sweep(quick({"objective.temperature": [1, 0.5]}, sweep={"data": str(test_data), "test_states": 50}))
    dataset = Dataset(test_data)
    index = some_whole_games(dataset, 50)
    assert len(np.unique(dataset.episode[index])) == 1
    for row, temperature in zip(rows, (1.0, 0.5), strict=True):
        student = load_student(tmp_path / "sweep" / row["run"])
        want = vars(measure(student.net, dataset, index, temperature=temperature))
        assert {name: float(row[f"test_{name}"]) for name in FIGURES} == pytest.approx(want)
        assert row["test_kl"] != row["val_kl"]
        assert (row["test_games"], row["test_states"]) == ("1", str(len(index)))


def test_the_games_of_a_row_add_up_to_it_exactly(
    quick: Quick, test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sweep(quick({"seed": [1, 2]}, sweep={"data": str(test_data)}))
    dataset = Dataset(test_data)
    whole = int(whole_games(dataset).sum())
    said = " ".join(capsys.readouterr().out.split())
    assert f"test: 2 of 2 whole games of {test_data}, {whole:,} states; 2 fragments of games" in said
    assert f"({len(dataset) - whole:,} states) are left out" in said
    for row in rows:
        games = read_rows(tmp_path / "sweep" / row["run"] / TEST_GAMES)
        states = sum(int(game["states"]) for game in games)
        assert (len(games), states) == (2, whole)
        assert (row["test_games"], row["test_states"]) == ("2", str(whole))
        sums = {name: math.fsum(float(game[name]) for game in games) for name in sums_of(OWN)}
        for name in ("kl", "action_error", "total_variation", "merged_action_error"):
            assert float(row[f"test_{name}"]) == sums[name] / states, name
        assert sums["jacobian_rows"] == states
        assert float(row["test_jacobian_cosine"]) == sums["jacobian_cosine"] / states
        relative = math.sqrt(sums["jacobian_difference"] / sums["jacobian_square"])
        assert float(row["test_jacobian_relative_error"]) == relative


def test_without_a_whole_game_nothing_is_trained(quick: Quick, test_data: Path, tmp_path: Path, trained: list[str],
                                                 make_config: Callable[..., Config]) -> None:  # fmt: skip
    cut = {"out": str(tmp_path / "cut"), "states": 60, "num_envs": 2}
    collect(make_config(seed=9, collect=cut))
    with pytest.raises(UserError, match="cut has no whole game, one recorded from its first state to its end; collect"):
        sweep(quick(sweep={"data": cut["out"]}))
    assert trained == []


def test_students_tested_on_other_states_do_not_mix(
    quick: Quick, test_data: Path, tmp_path: Path, trained: list[str]
) -> None:
    tested = {"data": str(test_data), "test_states": 50}
    sweep(quick({"seed": [1]}, sweep=tested))
    path = tmp_path / "sweep" / "rows.csv"
    rows = read_rows(path)
    for change in ({"test_states": "50"}, {"test_games": None, "test_states": None}):  # the second: of an old sweep
        changed = {name: change.get(name, value) for name, value in rows[0].items()}
        write_rows(path, [{name: value for name, value in changed.items() if value is not None}])
        with pytest.raises(UserError, match=r"rows\.csv has students that were tested on other states than the"):
            sweep(quick({"seed": [1, 2]}, sweep=tested))
    write_rows(path, rows)
    sweep(quick({"seed": [1, 2]}, sweep=tested))
    assert trained == ["seed-1", "seed-2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threat": {"target": 9}}, r"the cell with seed 3: --threat\.target=9: pong has actions 0 to 5"),
        ({"threat": {"source": "nobody"}}, r"the cell with seed 3: unknown teacher 'nobody'"),
        ({"sweep": {"games": 0}}, r"--evaluate\.attack is of whole games; add --sweep\.games, or leave it out"),
        ({"sweep": {"test_states": 5}}, r"--sweep\.test_states is of --sweep\.data; add that, or leave it out"),
        ({"evaluate": {"figures": ["fi1_median"]}}, r"--evaluate\.figures are measured on --sweep\.data; add that"),
    ],
)
def test_games_that_cannot_be_played_are_refused_before_any_training(
    quick: Quick, trained: list[str], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    attacked = {"num_envs": 2, **changes.get("evaluate", {"attack": "fgsm"})}
    settings = {**changes, "evaluate": attacked, "sweep": {"games": 2, **changes.get("sweep", {})}}
    with pytest.raises(UserError, match=message):
        sweep(quick({"seed": [3]}, **settings))
    assert trained == []
    assert not (tmp_path / "sweep").exists()


def test_a_video_that_cannot_be_written_is_refused_before_any_training(
    quick: Quick, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="videos need imageio-ffmpeg, which is not installed"):
        sweep(quick({"seed": [3]}, sweep={"games": 2}, evaluate={"num_envs": 2, "capture_video": True}))
    assert trained == []


def test_a_figure_that_has_rotted_is_refused_before_any_training(
    quick: Quick, tmp_path: Path, trained: list[str]
) -> None:
    sweep(quick({"seed": [1]}))
    path = tmp_path / "sweep" / "rows.csv"
    rows = read_rows(path)
    write_rows(path, [{**rows[0], "val_kl": "0.x3"}])
    with pytest.raises(UserError, match=r"rows\.csv is damaged: row 1 has '0\.x3' as its val_kl; remove it"):
        sweep(quick({"seed": [1, 2]}))
    write_rows(path, [{**rows[0], "val_kl": "nan"}])
    sweep(quick({"seed": [1, 2]}))
    assert trained == ["seed-1", "seed-2"]


def flat(of: Outputs) -> torch.Tensor:
    return of.student.mean()


def failing(of: Outputs) -> torch.Tensor:
    return of.student[:, 99]


def uncombined(sums: Sequence[float], count: int) -> float:
    return sums[0] / (count - 2)


FLAT, FAILING = Figure("flat", "flat", "one for all", flat), Figure("failing", "failing", "nothing", failing)
UNCOMBINED = Figure("uncombined", "uncombined", "nothing", lambda of: of.student[:, 0], combine=uncombined)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FLAT", r"figure 'flat' must compute 1 tensor of shape \(2,\), one number for each state, got \(\)"),
        ("FAILING", r"figure 'failing' fails \(IndexError: index 99 is out of bounds .*\); mend its function"),
        ("UNCOMBINED", r"figure 'uncombined' fails \(ZeroDivisionError: .*\); mend its function"),
    ],
)
def test_a_figure_that_fails_is_refused_before_any_training(
    quick: Quick, trained: list[str], test_data: Path, name: str, message: str
) -> None:
    settings = {"sweep": {"data": str(test_data)}, "evaluate": {"figures": [f"{__name__}:{name}"]}}
    with pytest.raises(UserError, match=message):
        sweep(quick({"seed": [1]}, **settings))
    assert trained == []


def test_students_play(quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = quick({"seed": [3]}, sweep={"games": 2}, evaluate={"protocol": "machado"})
    (row,) = sweep(config)
    record = json.loads((tmp_path / "sweep" / "seed-3" / "scores" / "scores.json").read_text())
    played = record["agents"]["student"]
    assert (record["protocol"], record["games"], len(played["returns"])) == ("machado", 2, 2)
    assert [float(row[name]) for name in ("score", "score_low", "score_high")] == [played["mean"], *played["ci95"]]
    assert f"{played['mean']:.1f}" in capsys.readouterr().out.splitlines()[-3]
    (tmp_path / "sweep" / "rows.csv").unlink()  # as if it had been killed after the games
    before = contents(tmp_path / "sweep" / "seed-3")
    assert sweep(config) == [row]
    assert contents(tmp_path / "sweep" / "seed-3") == before
    with pytest.raises(UserError, match=r"is a different sweep: evaluate\.num_envs was 32, now 1; choose another"):
        sweep(quick({"seed": [3, 4]}, sweep={"games": 2}, evaluate={"protocol": "machado", "num_envs": 1}))


def test_a_cell_that_diverges_stops_no_other(quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = quick({"train.learning_rate": [1e30, 0.01]})
    for _ in range(2):
        with pytest.raises(DivergedError, match=r"^1 of 2 cells diverged and have no row: learning_rate-1e\+30$"):
            sweep(config)
        said = " ".join(capsys.readouterr().out.split())
        assert "training stopped at step" in said
        assert [row["train.learning_rate"] for row in read_rows(tmp_path / "sweep" / "rows.csv")] == ["0.01"]


def test_a_sweep_of_which_nothing_is_left(quick: Quick) -> None:
    with pytest.raises(DivergedError, match=r"^1 of 1 cells diverged and have no row"):
        sweep(quick({"train.learning_rate": [1e30]}))


def test_checksums_are_verified_once(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    sha256 = large.sha256
    monkeypatch.setattr(large, "sha256", lambda path: verified.append(path) or sha256(path))
    sweep(quick({"seed": [1, 2]}))
    assert 0 < len(verified) == len(set(verified))


BAD = {
    "nothing": ({}, "a sweep needs values to go through; give --sweep.grid"),
    "one axis without values": ({"seed": [1], "train.states": []}, r"but 'train\.states' has none"),
    "too large": ({"seed": list(range(200)), "train.steps": list(range(1, 201))}, "the grid has 40,000 cells"),
    "twice the same": ({"seed": [1, 2, 1]}, r"two cells for .* have the same settings \(seed 1\); leave one out"),
    "minus zero": ({"train.weight_decay": [0, -0.0]}, "two cells for .* have the same settings"),
    "nan": ({"train.learning_rate": [0.1, float("nan")]}, "must be positive, got nan"),
    "bool": ({"train.steps": [True]}, r"--train\.steps must be int, got True"),
    "no values": ({"seed": []}, "a sweep needs values to go through"),
    "misspelt": ({"train.stats": [1]}, r"unknown setting 'train\.stats' \(did you mean 'train\.states'\?\)"),
    "without section": ({"states": [1]}, r"unknown setting 'states' \(did you mean 'train\.states'\?\)"),
    "section": ({"train": [1]}, "unknown setting 'train'"),
    "no word": ({3: [1]}, "unknown setting 3"),
    "type": ({"train.states": [100, "many"]}, r"--train\.states must be int or null, got many"),
    "literal": (
        {"objective.match": ["l2", "l3"]},
        r"--objective\.match must be one of \['l2', 'cosine', 'norm', 'weighted'\], got l3",
    ),
    "null": ({"seed": [1, None]}, "--seed must have a value, got null"),
    "drawn": ({"seed": [1, -1]}, "a seed that is drawn"),
    "range": ({"train.steps": [8, 0]}, r"the cell with train\.steps 0: --train\.steps must be positive, got 0"),
    "network": ({"student.name": ["nature", "natur"]}, r"the cell with student\.name natur: unknown network"),
    "too many": ({"train.states": [100, 10**6]}, r"the cell with train\.states 1000000: --train\.states=1000000 but"),
    "teacher": ({"student.init": [None, "gone"]}, r"the cell with student\.init gone: no finished student at gone"),
    "longer": ({"train.last_step": [8, 9]}, r"the cell with train\.last_step 9: --train\.last_step=9 is beyond the 8"),
    "fork": ({"train.fork_from": [None, "gone"]}, r"the cell with train\.fork_from gone: .* has no checkpoint"),
    "labeller": (
        {"objective.jacobian_targets": ["stored", "online"], "teacher": ["runs/other"]},
        r"the cell with objective\.jacobian_targets online, teacher runs/other: .*runs/other",
    ),
    "attacked": (
        {"train.adversary": ["pgd"], "train.adversary_share": [0.5, 0.8]},
        r"the cell with train\.adversary pgd, train\.adversary_share 0\.8: .* carries derivatives of the clean pixels",
    ),
    "twice": ({"objective.jacobian_weight": [0, 0.0]}, "two cells for .* have the same settings"),
    "env": ({"env": ["pong", "breakout"]}, "cannot vary 'env': a sweep is of one game"),
    "own folder": ({"train.out": ["a"]}, r"cannot vary 'train\.out': the sweep itself takes care of it"),
    "own resume": ({"train.resume": [False]}, r"cannot vary 'train\.resume': the sweep itself"),
    "own": ({"sweep.games": [1, 2]}, r"cannot vary 'sweep\.games': the sweep itself"),
    "other stage": (
        {"collect.k": [1, 2]},
        r"has the unknown setting 'collect\.k' \(did you mean 'objective\.k'\?\); distill train --help has all",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    quick: Quick, tmp_path: Path, trained: list[str], case: str
) -> None:
    grid, message = BAD[case]
    with pytest.raises(UserError, match=message):
        sweep(quick(grid))
    assert trained == []
    assert not (tmp_path / "sweep").exists()


def test_cells_of_different_settings_are_refused(quick: Quick) -> None:
    with pytest.raises(UserError, match="all cells of a sweep must give the same settings; the first gives seed"):
        sweep(quick(), [{"seed": 1}, {"train.states": 100}])


def test_test_data_that_tests_nothing_is_refused(
    quick: Quick, make_config: Callable[..., Config], pong_data: Path, other_pong_zip: Path, tmp_path: Path,
    trained: list[str],
) -> None:  # fmt: skip
    copy = shutil.copytree(pong_data, tmp_path / "copy")
    with pytest.raises(UserError, match="is what the students train on"):
        sweep(quick(sweep={"data": str(copy)}))
    other = {"out": str(tmp_path / "other"), "states": 24, "num_envs": 3, "shard_states": 12}
    collect(make_config(teacher=str(other_pong_zip), collect=other))
    with pytest.raises(UserError, match="is of another teacher than"):
        sweep(quick(sweep={"data": other["out"]}))
    with pytest.raises(UserError, match="no dataset at"):
        sweep(quick(sweep={"data": str(tmp_path / "gone")}))
    assert trained == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"learning_rate": 0.1}}, r"is a different sweep: train\.learning_rate was 0\.01, now 0\.1; choose"),
        ({"objective": {"match": "cosine"}}, r"is a different sweep: objective\.match was l2, now cosine; choose"),
        ({"sweep": {"games": 2}}, r"is a different sweep: sweep\.games was 0, now 2; choose another --sweep\.out"),
        ({"seed": 5}, r"is a different sweep: seed was 1, now 5; choose another --sweep\.out"),
        ({"grid": {"seed": [1]}}, r"is a sweep over train\.states, not over seed; choose another --sweep\.out"),
        (
            {"grid": {"train.states": [100], "seed": [1]}},
            r"is a sweep over train\.states, not over train\.states, seed",
        ),
    ],
)
def test_rows_of_other_settings_do_not_mix(
    quick: Quick, trained: list[str], changes: dict[str, Any], message: str
) -> None:
    grid = {"train.states": [100]}
    sweep(quick(grid))
    with pytest.raises(UserError, match=message):
        sweep(quick(**{"grid": {"train.states": [100, 200]}, **changes}))
    assert len(trained) == 1


def test_settings_that_do_not_matter_may_change(
    quick: Quick, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(quick({"seed": [1]}))
    # Its own seed is not used by a sweep over seeds.
    sweep(quick({"seed": [1, 2]}, seed=9, train={"log_every": 1}, evaluate={"games": 2, "protocol": "machado"}))
    assert trained == ["seed-1", "seed-2"]
    said = " ".join(capsys.readouterr().out.split())
    passed_over = "so passed over: evaluate.games, evaluate.protocol; --sweep.games=32 plays 32 with every student"
    assert said.count(f"no whole games are played, {passed_over}") == 1


def test_a_folder_of_something_else_is_kept(quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"is not a run of this toolkit; choose another --sweep\.out"):
        sweep(quick())
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["thesis.tex"]


def test_two_processes_do_not_share_a_sweep(quick: Quick, tmp_path: Path) -> None:
    def again(config: Config, run: Path) -> dict[str, Any]:
        before = (run.parent / "config.yaml").read_text()
        with pytest.raises(UserError, match=r"another process is at work in .*; wait for it or choose another"):
            sweep(quick())
        assert (run.parent / "config.yaml").read_text() == before
        return {"met": "yes"}

    assert sweep(quick({"seed": [1], "train.states": [100]}), after=again)[0]["met"] == "yes"


@pytest.mark.parametrize("held", [{"parts": 2}, {"window_shards": 2}])
def test_data_beyond_memory_are_checked_as_they_are_trained_on(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, held: dict[str, int]
) -> None:
    seen: list[type] = []

    def opened(config: TrainRun, verify: bool) -> Dataset:
        dataset = open_dataset(config, verify)
        seen.append(type(dataset))
        return dataset

    monkeypatch.setattr("distill.sweep.run.open_dataset", opened)
    assert len(sweep(quick({"seed": [1]}, train=held))) == 1
    assert seen == [WindowedDataset]


def test_several_processes_are_refused(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        sweep(quick())


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ({"train.states": 1000, "seed": 1}, "states-1000__seed-1"),
        ({"objective.jacobian_weight": 0.0, "train.learning_rate": 1e-5}, "jacobian_weight-0__learning_rate-1e-05"),
        ({"objective.k": 2, "train.states": None}, "k-2__states-none"),
        (
            {"seed": 1, "train.steps": 5, "collect.k": 3, "objective.k": 2},
            "collect.k-3__objective.k-2__steps-5__seed-1",
        ),
        ({"train.cuda_graph": True, "student.name": "nature-half"}, "name-nature-half__cuda_graph-true"),
        ({"objective.temperature": 0.1234567}, "temperature-0.1234567"),
    ],
)
def test_a_cell_is_named_after_its_settings(cell: Cell, name: str) -> None:
    assert cell_name(cell) == name


def test_names_are_file_names_of_their_own() -> None:
    values = [None, "none", "a/b", "a_b", "a__b", "a b", "../a", "{env}", "ä", "x" * 300, "x" * 301, "", "a=1,b"]
    hidden = [None, [8, 8], [88], []]
    names = [cell_name({"student.init": value}) for value in values]
    names += [cell_name({"student.hidden": value}) for value in hidden]
    assert len({name.lower() for name in names}) == len(values) + len(hidden)
    assert all(len(name) <= 120 and not set(name) & set("/{},= ") and name.isascii() for name in names)


def test_values_get_their_settings_types() -> None:
    cells = typed_cells([{"objective.jacobian_weight": 0, "student.convs": [[8, 8, 4]], "train.epochs": 3}])
    assert repr(cells[0]["objective.jacobian_weight"]) == "0.0"
    assert repr(cells[0]["train.epochs"]) == "3.0"
    assert [tuple(conv) for conv in cells[0]["student.convs"]] == [(8, 8, 4)]


def test_unfinished_cells_are_those_without_a_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("seed,error\n2,0.5\n")
    assert unfinished([{"seed": 1}, {"seed": 2}], tmp_path / "rows.csv") == [{"seed": 1}]
    assert [row["seed"] for row in finished([{"seed": 1}, {"seed": 2}], tmp_path / "rows.csv")] == ["2"]
    assert finished([{"seed": 1}], tmp_path / "none.csv") == []
    assert unfinished([{"seed": 1}], tmp_path / "none.csv") == [{"seed": 1}]


def test_the_command(pong_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--device=cpu", f"--train.data={pong_data}", f"--sweep.out={tmp_path / 'sweep'}", "--train.steps=2",
             "--student.convs", "[[2,8,8]]", "--student.hidden", "[4]", "--train.val_states=8"]  # fmt: skip
    assert main(["sweep", *words, "--sweep.grid", "{objective.jacobian_weight: [0, 0.1], seed: [4]}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["jacobian", "weight", "seed", "val", "KL", "val", "error"] in lines
    shown = [line for line in lines if line[:2] in (["0", "4"], ["0.1", "4"])]
    rows = read_rows(tmp_path / "sweep" / "rows.csv")
    assert [line[2] for line in shown] == [f"{float(row['val_kl']):.4f}" for row in rows]
    assert main(["sweep", *words, "--sweep.grid", "{sed: [4]}"]) == 1
    assert "unknown setting 'sed' (did you mean 'seed'?)" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "sweep", interrupted)
    assert main(["sweep"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command continues\n"


@pytest.mark.parametrize("grid", [GRID, {**GRID, "seed": [3]}], ids=["asked for again", "other cells"])
def test_rows_of_changed_data_do_not_stand_beside_others(
    quick: Quick, pong_copy: Path, make_config: Callable[..., Config], grid: dict[str, list[Any]], tmp_path: Path
) -> None:
    sweep(quick(train={"data": str(pong_copy)}))
    before = contents(tmp_path / "sweep")
    collect(make_config(collect={"out": str(pong_copy), "states": 700, "num_envs": 4}))
    with pytest.raises(UserError, match=r"has changed since .*rows\.csv got its row of states-100__seed-1"):
        sweep(quick(grid, train={"data": str(pong_copy)}))
    assert contents(tmp_path / "sweep") == before


def test_rows_of_another_test_set_do_not_stand_beside_others(
    quick: Quick, test_data: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(test_data, tmp_path / "test"))
    rows = sweep(quick({"seed": [1]}, sweep={"data": str(copy)}))
    assert rows[0]["test_data"] == Dataset(test_data).digest[:16]
    assert 0 <= float(rows[0]["test_repeats"]) < 0.2
    grown = {"out": str(copy), "states": 2300, "num_envs": 2, "writer": "more"}
    collect(make_config(seed=7, collect=grown))
    with pytest.raises(UserError, match=r"would be of different test data; choose another --sweep\.out"):
        sweep(quick({"seed": [1, 2]}, sweep={"data": str(copy)}))


def test_rows_tell_their_data(quick: Quick, pong_data: Path) -> None:
    rows = sweep(quick())
    assert {row["data"] for row in rows} == {Dataset(pong_data).digest[:16]}
    # Split by seed; which of the training games are used depends on the number of states, too.
    assert len({row["held_split"] for row in rows}) == 2
    assert len({row["train_split"] for row in rows}) > 2


def test_rows_of_the_last_version_go_by_their_runs(
    quick: Quick,
    pong_copy: Path,
    make_config: Callable[..., Config],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    config = quick({"seed": [1]}, train={"data": str(pong_copy)})
    path = tmp_path / "sweep" / "rows.csv"
    rows = sweep(config)
    write_rows(path, [{name: text for name, text in row.items() if name not in DATA_COLUMNS} for row in rows])
    sweep(config)
    assert "rows of an earlier version" not in capsys.readouterr().out
    for name in ("data.json", "student/student.json"):
        (tmp_path / "sweep" / "seed-1" / name).unlink()
    sweep(config)
    assert "rows of an earlier version do not tell their data" in " ".join(capsys.readouterr().out.split())


def test_a_test_set_of_training_games_cut_otherwise_is_refused(
    quick: Quick, make_config: Callable[..., Config], tmp_path: Path, trained: list[str]
) -> None:
    """The same seed and writer play the same games, whatever the lanes and shards."""
    for name, lanes, shard in (("a", 2, 200), ("b", 3, 320)):
        recorded = {"out": str(tmp_path / name), "states": 960, "num_envs": lanes, "shard_states": shard}
        collect(make_config(seed=5, collect={**recorded, "jacobian": "none"}))
    data = {"train": {"data": str(tmp_path / "a")}, "objective": {"jacobian_weight": 0.0}}
    with pytest.raises(UserError, match=r"has 2 games that are in .*a, too, which the students train on"):
        sweep(quick(sweep={"data": str(tmp_path / "b")}, **data))
    assert trained == []


def test_data_that_changes_while_a_sweep_runs_gives_no_row(
    quick: Quick, pong_copy: Path, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def grown_after(config: Config) -> Path:
        run = loop.train(config)
        collect(make_config(collect={"out": str(pong_copy), "states": 700, "num_envs": 4}))
        return run

    monkeypatch.setattr(module, "train", grown_after)
    with pytest.raises(UserError, match=r"seed 2.*has changed since this sweep began"):
        sweep(quick({"seed": [1, 2]}, train={"data": str(pong_copy)}))
    assert [row["seed"] for row in read_rows(tmp_path / "sweep" / "rows.csv")] == ["1"]


def test_repeats_are_counted_once_for_each_split(
    quick: Quick, test_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sweep(quick({"seed": [1, 2], "train.learning_rate": [0.01, 0.02]}, sweep={"data": str(test_data)}))
    told = [line for line in capsys.readouterr().out.split("test: ") if "pixel by pixel" in " ".join(line.split())]
    assert len(told) == 2
    assert [row["test_repeats"] for row in rows[::2]] == [row["test_repeats"] for row in rows[1::2]]
