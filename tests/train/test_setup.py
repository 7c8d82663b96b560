"""Every setting reaches what it is for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.losses.sobolev import Objective
from distill.networks.nets import AtariCNN, NetSpec
from distill.networks.settings import StudentConfig
from distill.students.folder import load_student, save_student
from distill.train.auto import Plan
from distill.train.loop import train
from distill.train.schedule import learning_rate
from distill.train.setup import make_loader, make_objective, make_student, training_split
from teachers.load import load_teacher
from tests.fixtures.records import edit_record


def weights(run: Path) -> Tensor:
    """All of the network after the last step, not the best one's."""
    model = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    return torch.cat([tensor.flatten() for tensor in model.values()]).double()


@pytest.fixture
def trained(quick: Callable[..., Config], tmp_path: Path) -> Callable[..., Path]:
    """``trained(name, start=None, **train)``: a quick run, from the weights of another one if given."""

    def make(name: str, start: Path | None = None, objective: dict[str, Any] | None = None, **settings: Any) -> Path:
        student = {} if start is None else {"init": str(start)}
        return train(quick(name, student=student, objective=objective or {}, train=settings))

    return make


def test_a_clipped_gradient_moves_less(trained: Callable[..., Path]) -> None:
    """AdamW is blind to a gradient's length until that is far below its epsilon, 1e-8."""
    start = trained("start")
    free, tight = trained("free", start, steps=3), trained("tight", start, steps=3, max_grad_norm=1e-12)
    # The start is the best student of its run; a rate of nearly zero shows it.
    before = weights(trained("still", start, steps=3, learning_rate=1e-12))
    assert (weights(tight) - before).norm() < 1e-3 * (weights(free) - before).norm()


def test_zero_clips_nothing(trained: Callable[..., Path]) -> None:
    assert torch.equal(weights(trained("none", max_grad_norm=0.0)), weights(trained("far", max_grad_norm=1e9)))


def test_weight_decay_shrinks_what_adamw_would_leave(trained: Callable[..., Path]) -> None:
    """By rate times decay of the weights before the step (Loshchilov & Hutter 2019, algorithm 2)."""
    start, decay = trained("start"), 2.0
    before = weights(trained("still", start, steps=1, learning_rate=1e-12))
    plain, shrunk = trained("plain", start, steps=1), trained("shrunk", start, steps=1, weight_decay=decay)
    rate = learning_rate(0, 1, 0.01, 3)
    torch.testing.assert_close(weights(plain) - weights(shrunk), rate * decay * before, rtol=1e-3, atol=1e-7)


def test_the_objective_is_the_one_that_was_asked_for(quick: Callable[..., Config], pong_data: Path) -> None:
    asked = {"divergence": "reverse_kl", "match": "l2", "jacobian_blur": 1.5, "temperature": 0.5}
    config = quick(objective={"jacobian_weight": 0.1, **asked})
    want = Objective(
        "reverse_kl", "logits", "l2", 1.5, 0.5, 7.0, jacobian_weight=0.1, jacobian_until=0.4, jacobian_share=0.2
    )
    plan = Plan(0.2, 0.4, 0.001, 0.001)
    assert make_objective(config, plan, Dataset(pong_data), 7.0) == want


@pytest.mark.parametrize("changes", [{}, {"jacobian_blur": 2.0}, {"temperature": 0.25}, {"temperature": 4.0}])
def test_a_student_that_knows_nothing_has_a_derivative_loss_of_one(
    trained: Callable[..., Path], changes: dict[str, float]
) -> None:
    """s is the mean square of what is matched: of the derivatives after blur and temperature."""
    run = trained("run", objective={"jacobian_weight": 0.1, **changes}, steps=1, batch_size=256, log_every=1)
    (loss,) = EventAccumulator(str(run)).Reload().Scalars("train/jacobian_loss")
    assert loss.value == pytest.approx(1, abs=0.15)


def test_stored_projections_keep_their_law_and_papers_tell_it(
    quick: Callable[..., Config], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    sobolev, fisher = {"jacobian_weight": 0.1}, str(tmp_path / "fisher")
    with pytest.raises(
        UserError, match=r"--objective\.law=fisher, but the projections that \S+ stores have law sphere"
    ):
        train(quick(objective={"law": "fisher", **sobolev}))
    collect(make_config(collect={"out": fisher, "states": 200, "num_envs": 4, "law": "fisher"}))
    run = train(quick(objective=sobolev, train={"data": fisher, "steps": 1}))
    assert load_student(run).training.objective["law"] == "fisher"


def test_the_normaliser_goes_with_the_square_of_the_temperature(quick: Callable[..., Config], pong_data: Path) -> None:
    config, dataset = quick(objective={"jacobian_weight": 0.1}), Dataset(pong_data)
    loader, index = make_loader(config, dataset, torch.device("cpu")), training_split(config, dataset)[0]
    at_one = loader.mean_square(index, 1.0, 0.0)
    assert loader.mean_square(index, 0.5, 0.0) == pytest.approx(4 * at_one)
    assert loader.mean_square(index, 3.0, 0.0) == pytest.approx(at_one / 9)


def test_a_start_may_have_a_value_head(quick: Callable[..., Config], pong_data: Path, tmp_path: Path) -> None:
    dataset = Dataset(pong_data)
    start = AtariCNN(NetSpec(((4, 8, 4),), (8,)), 6, value=True)
    save_student(tmp_path / "start", start, dataset.task)
    config = quick("run", student={"init": str(tmp_path / "start")})
    net = make_student(config, dataset)
    assert all(torch.equal(tensor, start.state_dict()[name]) for name, tensor in net.state_dict().items())
    assert "value.weight" not in net.state_dict()


def test_any_agent_of_the_same_network_is_a_start(quick: Callable[..., Config], pong_data: Path) -> None:
    """The bundled teacher, which a training may then harden, as it is; of another network it is refused."""
    dataset, teacher = Dataset(pong_data), load_teacher("pong").net.state_dict()
    nature = StudentConfig(name="nature", init="pong")
    net = make_student(replace(quick("run"), student=nature), dataset)
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(UserError, match=r"--student\.init=pong is another network than --student\.name=mnih2013 asks"):
        make_student(replace(quick("run"), student=replace(nature, name="mnih2013")), dataset)
    with pytest.raises(UserError, match=r"breakout plays breakout, not pong|breakout.* is of breakout, not pong"):
        make_student(replace(quick("run"), student=replace(nature, init="breakout")), dataset)


def test_q_values_are_no_start(quick: Callable[..., Config], pong_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = load_teacher("pong")
    monkeypatch.setattr(agent, "info", replace(agent.info, tau=0.01))
    monkeypatch.setattr("distill.train.first_weights.load_teacher", lambda *args, **settings: agent)
    config = replace(quick("run"), student=StudentConfig(name="nature", init="pong"))
    with pytest.raises(UserError, match=r"--student\.init=pong gives Q-values, not a policy; distill it first, and go"):
        make_student(config, Dataset(pong_data))


@pytest.mark.parametrize(("paper", "value"), [("game", "breakout"), ("preset_hash", "0123456789abcdef")])
def test_a_start_that_plays_another_game_is_refused(
    quick: Callable[..., Config], trained: Callable[..., Path], pong_data: Path, tmp_path: Path, paper: str, value: str
) -> None:
    other = Path(shutil.copytree(trained("start", steps=1), tmp_path / "other"))
    papers = other / "student" / "student.json"
    edit_record(papers, **{paper: value})
    with pytest.raises(
        UserError, match=r"plays breakout, but .* is of pong|is of (breakout, not pong|preset sb3 \(0123)"
    ):
        train(quick("run", student={"init": str(other)}))
    assert not (tmp_path / "run").exists()
    # Where the settings' game was agreed on already, the papers are still compared with the data's.
    config = quick("run")
    asked = replace(config, student=replace(config.student, init=str(other)))
    with pytest.raises(UserError, match=r"--student\.init=.*other is of (breakout, not pong|preset sb3 \(0123)"):
        make_student(asked, Dataset(pong_data))
