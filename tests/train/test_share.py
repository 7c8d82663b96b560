"""Training on data that carry derivatives of a share of their states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.config.config import Config
from distill.config.stages import collect, sweep, train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.figures.fidelity import measure
from distill.students.folder import load_student
from distill.train.setup import training_split

SOBOLEV: dict[str, Any] = {"jacobian_weight": 0.1, "jacobian_share": 0.25, "jacobian_schedule": "linear"}
Quick = Callable[..., Config]


def content(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    return found


def assert_same(one: Path, two: Path) -> None:
    """The same weights and the same scale, to the bit."""
    for name, value in content(one)["model"].items():
        assert torch.equal(content(two)["model"][name], value), name
    assert content(one)["progress"]["jacobian_scale"] == content(two)["progress"]["jacobian_scale"]


@pytest.mark.parametrize("changes", [{}, {"jacobian_until": 0.5}, {"jacobian_blur": 1.0, "match": "cosine"}])
@pytest.mark.parametrize("hold_data", ["memory", "device"])
def test_it_trains_as_on_all_derivatives_of_the_same_batches(
    quick: Quick, pong_quarter: Path, monkeypatch: pytest.MonkeyPatch, hold_data: str, changes: dict[str, Any]
) -> None:
    """``pong_data`` holds all; told that only a quarter carry, it gives the batches, s and figures that that gives."""
    settings: dict[str, Any] = {"objective": {**SOBOLEV, **changes}, "train": {"hold_data": hold_data}}
    some = train(quick("some", **{**settings, "train": {"hold_data": hold_data, "data": str(pong_quarter)}}))
    carries = Dataset(pong_quarter).carries
    monkeypatch.setattr(Dataset, "carries", carries)
    assert_same(some, train(quick("every", **settings)))
    monkeypatch.undo()
    usual = content(train(quick("usual", **settings)))["model"]
    assert not all(torch.equal(usual[name], value) for name, value in content(some)["model"].items())


def test_its_papers_have_figures_of_the_held_out_states_that_carry(quick: Quick, pong_quarter: Path) -> None:
    config = quick(objective=SOBOLEV, train={"data": str(pong_quarter)})
    run = train(config)
    data = Dataset(pong_quarter)
    _, held = training_split(config, data)
    assert 0 < data.carries[held].sum() < len(held)
    student = load_student(run)
    want = measure(student.net, data, held)
    assert student.training.metrics["val_jacobian_cosine"] == pytest.approx(want.jacobian_cosine, rel=1e-4)
    events = EventAccumulator(str(run)).Reload()
    assert events.Tags()["images"] == ["val/saliency", "val/influence"]


@pytest.mark.parametrize(
    "objective", [{}, {"jacobian_weight": 0.1, "jacobian_targets": "online"}], ids=["kl", "online"]
)
def test_who_reads_no_stored_derivatives_trains_as_ever(
    quick: Quick, pong_quarter: Path, objective: dict[str, Any]
) -> None:
    some = train(quick("some", objective=objective, train={"data": str(pong_quarter)}))
    assert_same(some, train(quick("every", objective=objective)))


def test_more_than_carry_is_refused(quick: Quick, pong_quarter: Path, tmp_path: Path) -> None:
    for share in (0.3, 1.0):
        wrong = (
            rf"--objective\.jacobian_share={share} of each batch, but 0\.25 of the states of .* carry derivatives; "
            r"set it to 0\.25 or less, or use --objective\.jacobian_targets=online"
        )
        with pytest.raises(UserError, match=wrong):
            train(quick(objective={**SOBOLEV, "jacobian_share": share}, train={"data": str(pong_quarter)}))
    with pytest.raises(UserError, match="training states carry derivatives, too few for 1 of each batch of 1; set"):
        train(quick(objective=SOBOLEV, train={"data": str(pong_quarter), "batch_size": 1}))
    assert not (tmp_path / "run").exists()


def test_data_in_which_no_state_carries_any_yet(
    quick: Quick, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    out = str(tmp_path / "data")
    collect(make_config(collect={"out": out, "states": 40, "num_envs": 4, "jacobian_share": 0.0001}))
    with pytest.raises(UserError, match=r"of a share of its states, 0\.0001, and of 40 that is none yet; collect more"):
        train(quick(objective={**SOBOLEV, "jacobian_share": 0.0001}, train={"data": out}))
    train(quick(train={"data": out, "val_fraction": 0.5}))


def test_a_sweep_refuses_before_it_trains(
    quick: Quick, make_config: Callable[..., Config], pong_quarter: Path, tmp_path: Path
) -> None:
    one = quick(objective=SOBOLEV, train={"data": str(pong_quarter)})
    for grid, message in (
        ({"objective.jacobian_share": [0.25, 0.5]}, r"0\.5 of each batch, but 0\.25"),
        ({"train.batch_size": [16, 1]}, r"too few for 1 of each batch of 1"),
    ):
        folder = tmp_path / "sweep"
        settings = {"train": vars(one.train), "objective": vars(one.objective), "student": vars(one.student)}
        with pytest.raises(UserError, match=message):
            sweep(make_config(sweep={"grid": grid, "out": str(folder)}, **settings))
        assert not list(folder.glob("*/checkpoints"))


def test_it_says_how_many_carry(
    quick: Quick, pong_quarter: Path, pong_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, data = quick(objective=SOBOLEV, train={"data": str(pong_quarter)}), Dataset(pong_quarter)
    train(config)
    index, _ = training_split(config, data)
    said = f"{np.sum(data.carries[index]):,} of the training states carry derivatives"
    assert said in " ".join(capsys.readouterr().out.split())
    train(quick("every", objective=SOBOLEV, train={"data": str(pong_data)}))
    assert "carry derivatives" not in capsys.readouterr().out
