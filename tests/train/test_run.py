"""What a run uses, writes and refuses."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from distill.batches.loader import Batch, Loader
from distill.cli.command import parse
from distill.config.config import Config
from distill.config.stages import collect, train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.figures.fidelity import Fidelity, measure
from distill.figures.figure import OWN
from distill.losses.schedule import jacobian_weight
from distill.records.data import DataUsed
from distill.students.folder import load_student
from distill.train import lesson
from distill.train.run import open_run
from distill.train.schedule import learning_rate
from distill.train.setup import data_used, training_split
from tests.fixtures.records import edit_record

SOBOLEV = {"jacobian_weight": 0.1, "jacobian_schedule": "linear", "jacobian_until": 1.0, "jacobian_share": 1.0}
FIDELITY = [figure.name for figure in OWN]
METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"


def opened(config: Config, used: DataUsed) -> tuple[Path, bool]:
    """A run's folder, which others may have again."""
    with contextlib.ExitStack() as held:
        return open_run(config, used, held)


@pytest.fixture(scope="module")
def module_quick(
    make_config: Callable[..., Config], pong_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Config]:
    folder = tmp_path_factory.mktemp("runs")

    def make(out: str, objective: dict[str, Any], **changes: Any) -> Config:
        student = {"convs": [(4, 8, 4)], "hidden": [8]}
        settings = {"steps": 40, "batch_size": 16, "warmup": 3, "learning_rate": 0.01, "val_every": 10, "log_every": 10}
        trained = {"data": str(pong_data), "out": str(folder / out), **settings, **changes}
        return make_config(student=student, objective=objective, train=trained)

    return make


@pytest.fixture(scope="module")
def sobolev(module_quick: Callable[..., Config]) -> tuple[Config, Path]:
    config = module_quick("sobolev", SOBOLEV)
    return config, train(config)


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0}).Reload()


def documented() -> set[str]:
    """Tags in the table of docs/metrics.md that training writes."""
    tags = re.findall(r"^\| ([a-z_]+/[a-z_]+) \|", METRICS.read_text(), re.MULTILINE)
    return {tag for tag in tags if not tag.startswith("whole_games/")}


def test_tensorboard_has_exactly_the_documented_tags(sobolev: tuple[Config, Path]) -> None:
    tags = events(sobolev[1]).Tags()
    scalars = set(tags["scalars"])
    assert scalars == {
        "train/loss",
        "train/kl_loss",
        "train/jacobian_loss",
        "train/jacobian_weight",
        "train/grad_norm",
        "train/learning_rate",
        "train/fps",
        *(f"val/{name}" for name in FIDELITY),
    }
    assert tags["images"] == ["val/saliency", "val/influence"]
    assert scalars | set(tags["images"]) == documented()


def test_tensorboard_values_mean_what_is_documented(sobolev: tuple[Config, Path]) -> None:
    config, run = sobolev
    seen = events(run)
    points = {tag: {p.step: p.value for p in seen.Scalars(tag)} for tag in seen.Tags()["scalars"]}
    assert [*points["train/loss"]] == [*points["val/kl"]] == [10, 20, 30, 40]
    for step in points["train/loss"]:
        assert points["train/learning_rate"][step] == pytest.approx(learning_rate(step - 1, 40, 0.01, 3))
        weight = points["train/jacobian_weight"][step]
        assert weight == pytest.approx(jacobian_weight(step - 1, 40, 0.1, "linear"))
        total = points["train/kl_loss"][step] + weight * points["train/jacobian_loss"][step]
        assert points["train/loss"][step] == pytest.approx(total, rel=1e-4)
    metrics = load_student(run).training.metrics
    best = load_student(run).training.best_step
    for name in FIDELITY:
        assert points[f"val/{name}"][best] == pytest.approx(metrics[f"val_{name}"], rel=1e-4, abs=1e-5)
    # A derivative that knows nothing is 1 off; s makes the loss the same figure squared. Batches of 16 differ.
    assert np.mean([*points["train/jacobian_loss"].values()]) == pytest.approx(1, abs=0.4)
    assert config.train.steps == 40


def test_saliency_image_is_four_states_by_three_pictures(sobolev: tuple[Config, Path]) -> None:
    (image,) = events(sobolev[1]).Images("val/saliency")
    assert (image.step, image.width, image.height) == (40, 3 * 84, 4 * 84)


def test_training_lowers_the_divergence(sobolev: tuple[Config, Path]) -> None:
    points = [p.value for p in events(sobolev[1]).Scalars("val/kl")]
    assert points[-1] < 0.95 * points[0]


def test_run_folder_tells_how_it_was_made(sobolev: tuple[Config, Path]) -> None:
    config, run = sobolev
    names = {path.name for path in run.iterdir() if "tfevents" not in path.name}
    told = {"config.yaml", "command.txt", "versions.json", "data.json"}
    assert names == told | {"checkpoints", "student", "best", "run.lock"}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.pt", "last.pt"}
    # The saved settings are a --config file that says the same.
    assert parse("train", ["--config", str(run / "config.yaml")]) == config
    versions = json.loads((run / "versions.json").read_text())
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert (run / "command.txt").read_text().strip()


def test_student_folder_is_complete(sobolev: tuple[Config, Path], pong_data: Path) -> None:
    config, run = sobolev
    assert {path.name for path in (run / "student").iterdir()} == {"model.safetensors", "student.json", "student.zip"}
    student, dataset = load_student(run), Dataset(pong_data)
    told = student.training
    assert student.task == dataset.task
    assert (student.task.game, student.task.preset, told.seed, told.steps) == ("pong", "sb3", 1, 40)
    assert told.teacher == dataset.identity.teacher
    assert told.data.states == 600
    assert told.jacobian_weight == 0.1
    assert told.val_fraction == config.train.val_fraction
    assert told.jacobian_scale == pytest.approx(dataset.jacobian_scale, rel=0.2)
    assert set(told.metrics) == {f"val_{name}" for name in FIDELITY}
    best = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    assert told.best_step == best["progress"]["step"]
    for name, tensor in student.net.state_dict().items():
        assert torch.equal(tensor, best["model"][name])


def test_default_folder_is_named_after_the_run(
    make_config: Callable[..., Config], pong_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(
        make_config(
            train={"data": str(pong_data), "steps": 1, "batch_size": 2, "val_states": 4},
            student={"convs": [(2, 8, 8)], "hidden": [2]},
            objective=SOBOLEV,
            seed=7,
        )
    )
    assert re.fullmatch(r"runs/pong__mnih2013__kl-sobolev0\.1__7__\d{10}", str(run))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_validation_never_overlaps_training(quick: Callable[..., Config], pong_data: Path, seed: int) -> None:
    dataset = Dataset(pong_data)
    train_index, val_index = training_split(quick(seed=seed, train={"val_states": 10_000}), dataset)
    assert len(train_index) + len(val_index) == 600
    assert not set(dataset.episode[train_index]) & set(dataset.episode[val_index])
    fewer = training_split(quick(seed=seed, train={"val_states": 7}), dataset)[1]
    assert len(set(fewer)) == 7
    assert set(fewer) <= set(val_index)


def test_only_training_states_are_trained_on_and_held_out_ones_scored(
    quick: Callable[..., Config], pong_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: dict[bool, list[np.ndarray]] = {True: [], False: []}
    load = Loader.load

    def seen(self: Loader, index: np.ndarray, step: int, **options: Any) -> Batch:
        used[len(index) == 16].append(index)
        return load(self, index, step, **options)

    monkeypatch.setattr(Loader, "load", seen)
    config = quick(train={"states": 100})
    train(config)
    train_index, val_index = training_split(config, Dataset(pong_data))
    trained, scored = (np.unique(np.concatenate(used[batch])) for batch in (True, False))
    assert set(trained) <= set(train_index)
    assert len(trained) > 96, "two epochs of six batches, each without repetition"
    np.testing.assert_array_equal(scored, val_index)


def test_fewer_training_states_are_whole_games_and_nested(quick: Callable[..., Config], pong_data: Path) -> None:
    """With the same held-out games, so that students of different amounts of data can be compared."""
    dataset = Dataset(pong_data)
    everything, val = training_split(quick(), dataset)
    some, same_val = training_split(quick(train={"states": 33}), dataset)
    more, _ = training_split(quick(train={"states": 200}), dataset)
    assert len(some) == 33
    assert len(np.unique(dataset.episode[some])) == 1
    assert set(some) < set(more) < set(everything)
    games, counts = np.unique(dataset.episode[more], return_counts=True)
    whole = [count == (dataset.episode[everything] == game).sum() for game, count in zip(games, counts, strict=True)]
    assert sum(not complete for complete in whole) <= 1
    np.testing.assert_array_equal(val, same_val)
    with pytest.raises(UserError, match=r"--train\.states=451 but .* has 450 training states"):
        training_split(quick(train={"states": 451}), dataset)


@pytest.mark.parametrize("template", ["{env}-{time}", "rate [1e-3] {time}*", "{time}/{env}", "{time}"])
def test_resume_finds_the_newest_run_of_the_same_name(
    quick: Callable[..., Config], tmp_path: Path, pong_data: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    def named(when: int) -> Path:
        return tmp_path / template.format(env="pong", time=when)

    used = data_used(quick(), Dataset(pong_data), np.arange(10))
    (tmp_path / "pong-others").mkdir()
    template = str(tmp_path / template)
    for second in (1000, 2000):
        monkeypatch.setattr("distill.records.runs.time.time", lambda second=second: float(second))
        opened(quick(train={"out": template}), used)
    monkeypatch.setattr("distill.records.runs.time.time", lambda: 3000.0)
    assert opened(quick(train={"out": template, "resume": True}), used)[0] == named(2000)
    assert opened(quick(train={"out": template}), used)[0] == named(3000)


def test_epochs_replace_steps(quick: Callable[..., Config]) -> None:
    run = train(quick(train={"epochs": 1.5, "states": 160, "steps": 999}))
    assert torch.load(run / "checkpoints" / "last.pt", weights_only=True)["progress"]["step"] == 15


def test_fast_engine_and_autograd_train_the_same_student(
    quick: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    students = [
        load_student(train(quick(name, student={"activation": "tanh"}, objective=objective, train={"engine": engine})))
        for name, engine, objective in (
            ("fast", "fast", SOBOLEV),
            ("autograd", "autograd", SOBOLEV),
            ("plain", "fast", {}),
        )
    ]
    fast, slow, plain = (torch.cat([p.flatten() for p in student.net.parameters()]) for student in students)
    # With ReLU, rounding decides on which side of zero a pre-activation lies, and the two runs drift apart.
    assert (fast - slow).norm() < 1e-4 * slow.norm()
    assert (plain - slow).norm() > 5e-3 * slow.norm()


class OddNet(nn.Module):
    """Two convolutions side by side: no sequence, so the fast engine does not know it."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 2, 8, 8), nn.Conv2d(4, 2, 8, 8)
        self.head = nn.Linear(400, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.cat([self.left(x).relu(), self.right(x).tanh()], 1).flatten(1))
        return out


def test_network_of_ones_own_is_trained_by_autograd(
    quick: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    net = OddNet()
    before = [p.detach().clone() for p in net.parameters()]
    run = train(quick(objective=SOBOLEV), net)
    assert "OddNet is not known to the fast engine: using autograd" in caplog.text
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not (run / "student").exists()
    assert (run / "checkpoints" / "best.pt").is_file()
    assert "val/jacobian_cosine" in events(run).Tags()["scalars"]


class Tied(OddNet):
    """Built again by its class, with a layer that behaves otherwise in training and weights that share memory."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.right = self.left
        self.norm, self.head = nn.BatchNorm1d(400), nn.Linear(400, num_actions)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x).relu(), self.right(x).tanh()], 1).flatten(1)
        out: Tensor = self.head(self.norm(both))
        return out


def test_network_that_can_be_built_again_becomes_a_student(quick: Callable[..., Config], pong_data: Path) -> None:
    run = train(quick(objective=SOBOLEV, seed=2), Tied(6))
    student = load_student(run)
    assert student.record.network == f"{Tied.__module__}:Tied"
    assert student.training.student == "Tied"
    assert isinstance(student.net, Tied)
    assert not student.net.training
    assert student.net.norm.num_batches_tracked > 0
    best = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["model"]
    assert all(torch.equal(tensor, student.net.state_dict()[name]) for name, tensor in best.items())
    dataset = Dataset(pong_data)
    held = training_split(quick(seed=2), dataset)[1]
    again = measure(student.net, dataset, held, seed=2)
    assert again.kl == pytest.approx(student.training.metrics["val_kl"], rel=1e-5)


def test_a_student_whose_network_is_not_here_says_so(quick: Callable[..., Config]) -> None:
    run = train(quick(), Tied(6))
    papers = run / "student" / "student.json"
    for name, message in (
        ("mine", r"is of network 'mine', which is not registered here; import the .* DISTILL_PLUGINS=its_name"),
        ("nowhere:Net", "is of a network that is not here: network 'nowhere:Net': there is no module nowhere"),
        (f"{__name__}:OddNet", r"is of a network that is not here: network .* fails \(TypeError"),
    ):
        edit_record(papers, network=name)
        with pytest.raises(UserError, match=message):
            load_student(run)


def test_loss_that_is_not_a_number_stops_the_run(
    quick: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load = Loader.load
    bad: list[np.ndarray] = []

    def poisoned(self: Loader, index: np.ndarray, step: int, **options: Any) -> Batch:
        batch = load(self, index, step, **options)
        if step == 9 and len(index) == 16:
            batch.logits[3] = float("nan")
            bad.append(index)
        return batch

    monkeypatch.setattr(Loader, "load", poisoned)
    with pytest.raises(UserError, match=r"training stopped at step 10: loss nan, .*try a lower") as stopped:
        train(quick())
    assert f"batch of states {', '.join(map(str, bad[0][:4]))}" in str(stopped.value)
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    assert f"the last good checkpoint is {last}" in str(stopped.value)
    saved = torch.load(last, weights_only=True)
    assert saved["progress"]["step"] == 8
    assert all(torch.isfinite(tensor).all() for tensor in saved["model"].values())
    monkeypatch.undo()
    run = train(quick())
    assert load_student(run).training.steps == 12


@pytest.mark.parametrize(
    ("steps", "what"), [(12, r"at step 2: loss nan, gradient norm nan"), (1, r"at step 1: val/kl nan")]
)
def test_learning_rate_that_explodes_stops_the_run(quick: Callable[..., Config], steps: int, what: str) -> None:
    with pytest.raises(UserError, match=rf"training stopped {what}.*; no checkpoint had been saved yet; try a lower"):
        train(quick(train={"learning_rate": 1e30, "steps": steps, "warmup": 0}))


def test_nothing_good_is_overwritten_when_validation_explodes(
    quick: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kls = iter([1.0, float("nan")])
    monkeypatch.setattr(lesson, "fidelity", lambda *arguments: Fidelity(kl=next(kls), action_error=0.5))
    with pytest.raises(UserError, match=r"stopped at step 10: val/kl nan; the last good checkpoint is"):
        train(quick())
    saved = {
        name: torch.load(tmp_path / "run" / "checkpoints" / f"{name}.pt", weights_only=True)
        for name in ("best", "last")
    }
    assert (saved["best"]["progress"]["step"], saved["last"]["progress"]["step"]) == (5, 8)


@pytest.mark.parametrize("bad", [name for name in FIDELITY if name != "kl"])
def test_no_figure_that_is_not_a_number_gets_into_a_students_papers(
    quick: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    figures = Fidelity(**{name: float("nan") if name == bad else 0.1 for name in FIDELITY})
    monkeypatch.setattr(lesson, "fidelity", lambda *arguments: figures)
    with pytest.raises(UserError, match=rf"stopped at step 5: val/{bad} nan"):
        train(quick())


def test_data_of_another_game_is_refused(make_config: Callable[..., Config], pong_data: Path, tmp_path: Path) -> None:
    config = make_config(env="breakout", train={"data": str(pong_data), "out": str(tmp_path / "run")})
    with pytest.raises(UserError, match=r"is of pong, not breakout; set --env or --train\.data"):
        train(config)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def no_derivatives(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("none") / "data"
    collect(make_config(collect={"out": str(out), "states": 60, "num_envs": 3, "jacobian": "none"}))
    return out


def test_derivatives_that_are_not_stored(quick: Callable[..., Config], no_derivatives: Path, tmp_path: Path) -> None:
    data = {"data": str(no_derivatives)}
    with pytest.raises(UserError, match=r"stores no derivatives; use --objective\.jacobian_targets=online"):
        train(quick(objective={"jacobian_weight": 0.1}, train=data))
    assert not (tmp_path / "run").exists()
    online = train(quick("online", objective={"jacobian_weight": 0.1, "jacobian_targets": "online"}, train=data))
    assert load_student(online).training.metrics["val_jacobian_cosine"] is not None
    plain = train(quick("plain", train=data))
    assert load_student(plain).training.metrics["val_jacobian_cosine"] is None


def test_online_teacher_must_be_the_one_that_labelled(quick: Callable[..., Config], other_pong_zip: Path) -> None:
    with pytest.raises(UserError, match=r"other-pong\.zip did not label .*; name it by --teacher"):
        train(quick(objective={"jacobian_weight": 0.1, "jacobian_targets": "online"}, teacher=str(other_pong_zip)))


def test_network_that_cannot_be_built_leaves_no_folder(quick: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a 100x100 convolution does not fit a 84x84 input"):
        train(quick(student={"convs": [(8, 100, 1)]}))
    assert not (tmp_path / "run").exists()


def test_start_from_a_trained_student(quick: Callable[..., Config], sobolev: tuple[Config, Path]) -> None:
    _, first = sobolev
    run = train(quick(student={"init": str(first)}, train={"steps": 1, "learning_rate": 1e-9}))
    for name, tensor in load_student(run).net.state_dict().items():
        assert torch.allclose(tensor, load_student(first).net.state_dict()[name], atol=1e-6)
    with pytest.raises(UserError, match=r"is another network than --student\.name=mnih2013 asks for"):
        train(quick("other", student={"init": str(first), "hidden": [9]}))


def test_a_run_that_was_refused_late_may_be_corrected(quick: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match="needs a CUDA device"):
        train(quick("run", train={"cuda_graph": True}))
    assert train(quick("run", train={"steps": 6}, seed=2)).name == "run"
    with pytest.raises(UserError, match="is a different run: seed was 2, now 1"):
        train(quick("run", train={"steps": 6}))


def test_a_cuda_graph_needs_a_gpu_and_the_fast_engine(quick: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"--train.cuda_graph=true needs a CUDA device, not cpu"):
        train(quick("graph", train={"cuda_graph": True}))
    with pytest.raises(UserError, match=r"--train.cuda_graph=true records the fast engine only"):
        train(quick("autograd", train={"cuda_graph": True, "engine": "autograd"}))
