"""The table of figures: what reads it, what may be added, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill.batches.loader import Loader
from distill.config.config import Config
from distill.config.stages import evaluate, report, sweep, train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.figures.by_game import measure_games
from distill.figures.fidelity import Fidelity, fidelity_of_outputs, figures_of, measure
from distill.figures.figure import (
    FIGURES,
    OWN,
    Derivatives,
    Figure,
    Outputs,
    chosen,
    for_tables,
    per_state,
    register_figure,
    sums_of,
)
from distill.losses.settings import ObjectiveConfig
from distill.records.tensorboard import SCORE
from distill.report.papers import CURVES
from distill.sweep.grid import read_rows
from teachers.load import load_teacher

METRICS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def bright(of: Outputs) -> Tensor:
    return of.obs.flatten(1).mean(1)


def lengths(of: Derivatives) -> tuple[Tensor, Tensor]:
    return of.student.norm(dim=1), of.teacher.norm(dim=1)


brightness = Figure("brightness", "bright", "mean of all pixels", bright, unit="0 .. 1", form=".2f", better="higher")
longer = Figure(
    "longer", "longer", "mean length of the student's derivative over the teacher's", lengths, form=".1%",
    needs="derivatives", sums=("length_student", "length_teacher"), combine=lambda sums, count: sums[0] / sums[1],
)  # fmt: skip
wide = Figure("wide", "wide", "what is of a wrong shape", lambda of: of.student)
kl = Figure("kl", "another KL", "what is there already", bright)
NAMES = [f"{__name__}:brightness", f"{__name__}:longer"]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Pong's teacher with half its logits."""
    teacher = load_teacher("pong").net
    with torch.no_grad():
        teacher.policy.weight.mul_(0.5)
    return teacher


def test_what_fidelity_names_is_in_the_table() -> None:
    assert Fidelity.__annotations__.keys() <= {figure.name for figure in OWN}


def test_curves_of_the_report_are_of_the_table() -> None:
    assert CURVES == {
        "val/kl": ("kl", "KL, nats (log scale)", {"log": True, "percent": False}),
        "val/action_error": ("action-error", "action error, % of states", {"log": False, "percent": True}),
        "val/jacobian_cosine": ("jacobian-cosine", "cosine of the two Jᵀv", {"log": False, "percent": False}),
    }


def test_tables_have_distances_then_shares_then_derivatives() -> None:
    kinds = [(figure.needs == "derivatives", figure.form.endswith("%")) for figure in for_tables(OWN)]
    assert kinds == sorted(kinds)
    assert for_tables(OWN)[0].name == "kl"
    assert for_tables([dataclasses.replace(brightness, in_tables=False)]) == []
    assert SCORE not in {figure.name for figure in OWN}


def test_figures_of_ones_own_stand_beside_the_others(pong_data: Path, net: nn.Module) -> None:
    data, figures = Dataset(pong_data), chosen(NAMES)
    index = np.arange(0, len(data), 3)
    loader = Loader(data, ObjectiveConfig(), torch.device("cpu"), 1, None)
    found = figures_of(net, None, loader, index, 0.5, figures)
    want = measure(net, data, index, temperature=0.5)
    for name, value in vars(want).items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert found["brightness"] == pytest.approx(data.stacks(index).mean() / 255, rel=1e-5)
    stored = data.jacobian(index)
    theirs = torch.from_numpy(stored.codes).float() * torch.from_numpy(stored.scale).unsqueeze(-1)
    x = (torch.from_numpy(data.stacks(index)) / 255).requires_grad_()
    assert data.v is not None
    (ours,) = torch.autograd.grad((net(x) * torch.from_numpy(data.v[index, 0])).sum(), x)
    ratio = ours.flatten(1).norm(dim=1).sum() / (theirs.flatten(1).norm(dim=1).sum() / 0.5)
    assert found["longer"] == pytest.approx(float(ratio), rel=1e-3)
    games = measure_games(net, data, index, figures=figures)
    assert set(games[0]) == {
        "writer",
        "game",
        "states",
        *sums_of(OWN),
        "brightness",
        "length_student",
        "length_teacher",
    }


def test_logits_alone_have_the_figures_that_need_no_more() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(50, 6), torch.randn(50, 6)
    found = fidelity_of_outputs(student, teacher, "pong")
    assert found.jacobian_cosine is None
    assert found.jacobian_relative_error is None
    for figure in OWN:
        if figure.needs == "outputs":
            of = Outputs(student, teacher, torch.empty(0), [(0, 1), (2, 4), (3, 5)])
            assert getattr(found, figure.name) == pytest.approx(float(figure.compute(of).mean())), figure.name  # type: ignore[union-attr]


def test_a_registered_figure_has_a_name() -> None:
    register_figure(brightness)
    try:
        assert chosen(["brightness"])[-1] is brightness
    finally:
        FIGURES._things.pop("brightness")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["brightnes"], "unknown figure 'brightnes'"),
        ([f"{__name__}:bright"], "must be a distill.api.Figure, but is a function"),
        ([f"{__name__}:kl"], "is called 'kl', or adds up what is; give it another name"),
        ([NAMES[0], NAMES[0]], "is called 'brightness', or adds up what is; give it another name"),
    ],
)
def test_what_is_no_figure_is_refused(make_config: Callable[..., Config], names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config(evaluate={"figures": names})


def test_a_figure_of_a_wrong_shape_says_so() -> None:
    of = Outputs(torch.zeros(3, 6), torch.zeros(3, 6), torch.zeros(3, 4, 84, 84), [])
    message = r"figure 'wide' must compute 1 tensor of shape \(3,\), one number for each state, got \(3, 6\)"
    with pytest.raises(UserError, match=message):
        per_state([wide], of)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"name": "a b"}, "letters, digits and _ only, got 'a b'"), ({"form": "%d"}, "cannot be written as '%d'")],
)
def test_an_entry_that_nobody_could_show_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(brightness, **changes)


def test_a_figure_goes_through_evaluation_and_report(
    quick: Callable[..., Config], make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = quick()
    run = train(config)
    settings: dict[str, Any] = {
        "agents": ["teacher", f"student={run}"], "games": 1, "num_envs": 1, "figures": NAMES,
        "out": str(tmp_path / "scores"),
    }  # fmt: skip
    with pytest.raises(UserError, match=r"measured on recorded states; name a dataset with --evaluate\.data"):
        evaluate(make_config(evaluate=settings))
    settings |= {"data": config.train.data, "val_states": 40}
    record = evaluate(make_config(evaluate=settings))
    written = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert record == {name: value for name, value in written.items() if name not in ("version", "checksum")}
    assert record["figures"]["brightness"] == {
        "title": "bright", "meaning": "mean of all pixels", "unit": "0 .. 1", "form": ".2f", "better": "higher",
    }  # fmt: skip
    student = record["agents"]["student"]
    assert 0 < student["val_brightness"] < 1
    assert student["val_longer"] > 0
    assert record["agents"]["teacher"]["val_brightness"] is None
    said = capsys.readouterr().out
    assert f"{student['val_brightness']:.2f}" in said
    assert "longer" in said
    page = report(make_config(report={"scores": str(tmp_path / "scores" / "scores.json"), "out": str(tmp_path / "p")}))
    html = page.read_text()
    assert "<th>bright</th>" in html
    assert "bright: mean of all pixels, 0 .. 1." in html
    with pytest.raises(UserError, match=r"has brightness, longer figures besides the usual ones, not those of"):
        evaluate(make_config(evaluate={**settings, "figures": []}))


def test_a_sweep_has_a_column_of_it(
    quick: Callable[..., Config], make_config: Callable[..., Config], tmp_path: Path, pong_data: Path
) -> None:
    from distill.config.stages import collect
    from distill.evaluate.settings import EvaluateConfig
    from distill.sweep.settings import SweepConfig

    test = tmp_path / "test"
    collect(make_config(seed=2, collect={"out": str(test), "states": 2200, "num_envs": 1, "shard_states": 2200}))
    swept = SweepConfig(out=str(tmp_path / "sweep"), grid={"seed": [1]}, data=str(test))
    config = dataclasses.replace(quick(), sweep=swept, evaluate=EvaluateConfig(figures=NAMES))
    (row,) = sweep(config)
    assert 0 < float(row["test_brightness"]) < 1
    assert float(row["test_longer"]) > 0
    (game, *_) = read_rows(tmp_path / "sweep" / row["run"] / "test_games.csv")
    assert float(game["brightness"]) > 0
    with pytest.raises(UserError, match=r"different sweep: evaluate\.figures was"):
        sweep(dataclasses.replace(config, evaluate=EvaluateConfig(figures=NAMES[:1])))
