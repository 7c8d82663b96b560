"""TensorBoard shows what was computed and nothing else, and runs bear the names of their networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from torch import nn

from distill.config.config import Config
from distill.config.stages import train
from distill.networks.nets import AtariCNN, NetSpec
from distill.students.folder import load_student
from distill.train.team import Team

SOBOLEV = {"jacobian_weight": 0.1, "jacobian_schedule": "linear"}


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()


def scalars(run: Path) -> set[str]:
    return set(events(run).Tags()["scalars"])


def test_plain_distillation_logs_nothing_of_derivatives(quick: Callable[..., Config]) -> None:
    logged = scalars(train(quick()))
    assert {"train/loss", "train/kl_loss", "val/kl", "val/jacobian_cosine"} <= logged
    assert logged.isdisjoint({"train/jacobian_loss", "train/jacobian_weight"})


@pytest.mark.parametrize("engine", ["fast", "autograd"])
def test_a_lambda_that_has_come_to_zero_ends_the_curve(
    quick: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr("distill.losses.sobolev.jacobian_weight", lambda step, *rest: 0.1 if step < 6 else 0.0)
    seen = events(train(quick(objective=SOBOLEV, train={"engine": engine})))
    assert [point.step for point in seen.Scalars("train/jacobian_loss")] == [2, 4, 6]
    weights = [(point.step, point.value) for point in seen.Scalars("train/jacobian_weight")]
    assert weights[2:4] == [(6, pytest.approx(0.1)), (8, 0.0)]


def test_one_process_has_nothing_to_average() -> None:
    from distill.losses.sobolev import Losses

    losses = Losses(torch.ones(()), {"divergence": torch.ones(())}, torch.ones(1, 2))
    assert Team().average([], losses) is losses


@pytest.fixture(scope="module")
def hparams() -> Callable[[Path], tuple[Any, dict[str, Any]]]:
    """What the HPARAMS tab is told of a run: the experiment, and the settings by name."""

    def read(run: Path) -> tuple[Any, dict[str, Any]]:
        seen = events(run)
        content = {tag: seen.SummaryMetadata(tag).plugin_data.content for tag in seen.PluginTagToContent("hparams")}
        experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
        start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
        values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
        return experiment, values

    return read


def test_hparams_show_what_was_set_and_how_good_the_student_is(
    quick: Callable[..., Config], hparams: Callable[[Path], tuple[Any, dict[str, Any]]]
) -> None:
    run = train(quick(objective=SOBOLEV, train={"states": 100}))
    experiment, values = hparams(run)
    wanted = {
        "jacobian_weight": 0.1, "jacobian_schedule": "linear", "states": 100, "steps": 12, "learning_rate": 0.01,
        "batch_size": 16, "student": "mnih2013, convs 4x8/4, hidden 8", "seed": 1,
    }  # fmt: skip
    assert wanted.items() <= values.items()
    assert {info.name for info in experiment.hparam_infos} == set(values)
    first = sorted(experiment.hparam_infos, key=lambda info: (not info.differs, info.name))[:5]
    assert {info.name for info in first} >= {"jacobian_weight", "jacobian_schedule", "states", "seed"}
    tags = [metric.name.tag for metric in experiment.metric_infos]
    assert tags[:4] == ["val/kl", "val/action_error", "val/jacobian_cosine", "whole_games/mean_reward"]
    training, figures = load_student(run).training, events(run / "best")
    for name, value in training.metrics.items():
        (point,) = figures.Scalars(name.replace("val_", "val/"))
        assert (point.step, point.value) == (training.best_step, pytest.approx(value))


@pytest.mark.usefixtures("hparams")
def test_no_chart_has_a_single_point_and_training_comes_first(quick: Callable[..., Config]) -> None:
    run = train(quick(objective=SOBOLEV))
    seen = events(run)
    assert all(len(seen.Scalars(tag)) > 1 for tag in seen.Tags()["scalars"])
    assert scalars(run / "best") <= scalars(run), "points of the kept checkpoint lie on the curves"
    tags = scalars(run) | set(seen.Tags()["images"]) | {"whole_games/mean_reward"}
    groups = sorted({tag.partition("/")[0] for tag in tags})
    assert groups == ["train", "val", "whole_games"], "TensorBoard sorts them, and opens the first two"


class Pooled(nn.Sequential):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__(nn.AvgPool2d(12), nn.Flatten(), nn.Linear(4 * 7 * 7, 6))


def test_a_network_of_ones_own_has_its_own_name(
    quick: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    hparams: Callable[[Path], tuple[Any, dict[str, Any]]],
) -> None:  # fmt: skip
    config = quick(train={"out": str(tmp_path / "{student}-{seed}")})
    run = train(config, Pooled())
    assert run.name == "Pooled-1"
    assert "Pooled (1,182 parameters) on" in capsys.readouterr().out
    assert hparams(run)[1]["student"] == "Pooled"
    assert yaml.safe_load((run / "config.yaml").read_text())["student"]["name"] == "Pooled"


@pytest.mark.parametrize(
    ("spec", "name", "text"),
    [
        (NetSpec(((16, 8, 4), (32, 4, 2)), (256,), "tanh"), "mnih2013", "mnih2013, tanh ("),
        (NetSpec(((2, 8, 8),), (4,)), "AtariCNN", "AtariCNN, convs 2x8/8, hidden 4 ("),
    ],
)
def test_a_given_network_of_a_known_kind_is_described(
    quick: Callable[..., Config], capsys: pytest.CaptureFixture[str], spec: NetSpec, name: str, text: str
) -> None:
    run = train(quick(train={"steps": 1}), AtariCNN(spec, 6))
    student = load_student(run)
    assert (student.training.student, student.net.spec) == (name, spec)
    assert capsys.readouterr().out.splitlines()[1].startswith(text)
