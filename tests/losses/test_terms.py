"""Terms of one's own: their gradient, what they see, their names, and a training with one."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from distill.config.config import Config
from distill.config.stages import train
from distill.dataset.reader import Dataset
from distill.engine.engine import Engine
from distill.errors import UserError
from distill.losses.entropy import Entropy
from distill.losses.sobolev import Losses, Objective, sobolev_loss
from distill.losses.targets import Targets
from distill.losses.term import Seen, Term
from distill.losses.terms import TERMS, make_terms, register_term
from distill.networks.nets import AtariCNN
from distill.records.data import DataUsed
from distill.students.folder import load_student
from distill.system.settings import part
from distill.train.run import open_run
from distill.train.settings import TrainRun
from distill.train.setup import data_used

MakeNet = Callable[..., AtariCNN]
MakeBatch = Callable[..., tuple[Tensor, Tensor, Targets]]


class Everything(Term):
    """Reads all that a term may read."""

    derivatives = True

    def loss(self, seen: Seen) -> Tensor:
        assert seen.targets is not None
        apart = (seen.student.softmax(-1) - seen.teacher.softmax(-1)).square().sum(-1)
        along = (seen.student * seen.targets.v[:, 0]).sum(-1) - seen.targets.row(0).flatten(1).sum(1)
        return apart * seen.obs.flatten(1).mean(1) + along.square()


class Fading(Entropy):
    """Weight 1 at the first step, nothing at the last."""

    name = "fading"

    def weight_at(self, step: int, total: int) -> float:
        return self.weight * (1 - step / (total - 1))


def opened(config: TrainRun, used: DataUsed) -> tuple[Path, bool]:
    """A run's folder, which others may have again."""
    with contextlib.ExitStack() as held:
        return open_run(config, used, held)


def gradients(net: AtariCNN) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad(set_to_none=True)
    return found


def both(net: AtariCNN, batch: tuple[Tensor, Tensor, Targets], weight: Any, objective: Objective) -> Losses:
    """A step by the engine, held against autograd's on the whole objective."""
    want = sobolev_loss(net, *batch, weight, objective)
    want.total.backward()  # type: ignore[no-untyped-call]
    theirs = gradients(net)
    got = Engine(net.path(), torch.float64).step(*batch, weight, objective)
    ours = gradients(net)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-10 * gradient.norm(), name
    assert got.keys() == want.keys()
    for name, loss in want.items():
        torch.testing.assert_close(got[name], loss.detach(), rtol=1e-10, atol=1e-10)
    return got


@pytest.mark.parametrize("terms", [(Entropy(0.7),), (Everything(0.3), Entropy(-0.2))])
@pytest.mark.parametrize("setting", [{}, {"temperature": 0.5, "divergence": "mse"}])
def test_the_engine_has_autograds_gradient(
    make_net: MakeNet, make_batch: MakeBatch, terms: tuple[Term, ...], setting: dict[str, Any]
) -> None:
    net, batch = make_net(activation="tanh"), make_batch(batch=3, actions=5)
    losses = both(net, batch, 0.3, Objective(scale=2.5, terms=terms, **setting))
    assert list(losses) == ["total", "divergence", "jacobian", *(term.name for term in terms)]
    total = losses["divergence"] + 0.3 * losses["jacobian"] + sum(term.weight * losses[term.name] for term in terms)
    torch.testing.assert_close(losses.total, total)


def test_weights_by_name_and_terms_that_are_left_out(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net, batch = make_net(activation="tanh"), make_batch(batch=3, actions=5)
    objective = Objective(scale=2.5, terms=(Entropy(0.7),))
    losses = both(net, batch, {"jacobian": 0.0, "entropy": 0.1}, objective)
    torch.testing.assert_close(losses.total, losses["divergence"] + 0.1 * losses["entropy"])
    assert "jacobian" not in losses
    assert list(both(net, batch, {"jacobian": 0.2, "entropy": 0.0}, objective)) == ["total", "divergence", "jacobian"]


def test_entropy_is_minus_the_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, 0.0]])
    loss = Entropy().loss(Seen(logits, logits, torch.zeros(2, 1), None))
    torch.testing.assert_close(loss, torch.tensor([-1.3862944, 0.0]))


def test_the_slope_is_by_each_state_and_leaves_no_graph() -> None:
    torch.manual_seed(0)
    student = torch.randn(4, 5, requires_grad=True)
    with torch.no_grad():
        loss, slope = Entropy(3.0).slope(Seen(student, student, torch.zeros(4, 1), None))
    want = torch.func.jacrev(lambda z: Entropy().loss(Seen(z, z, z, None)))(student).diagonal(dim1=0, dim2=1).T
    torch.testing.assert_close(slope, want.detach())
    assert not loss.requires_grad
    assert not slope.requires_grad
    assert student.grad is None


def test_terms_are_found_by_name_and_by_path() -> None:
    terms = make_terms({"entropy": 0.5, f"{__name__}:Everything": 2.0})
    assert [(type(term), term.name, term.weight) for term in terms] == [
        (Entropy, "entropy", 0.5),
        (Everything, "everything", 2.0),
    ]
    register_term("all in a test", Everything)
    try:
        assert isinstance(make_terms({"all in a test": 1.0})[0], Everything)
    finally:
        TERMS._things.pop("all in a test")


class Total(Entropy):
    """Bears a name that is taken."""

    name = "total"


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"entropie": 1.0}, r"unknown term 'entropie' \(did you mean 'entropy'\?\)"),
        ({f"{__name__}:MakeNet": 1.0}, "must be a class derived from distill.api.Term"),
        ({f"{__name__}:Total": 1.0}, r"calls itself 'total'; give its class another `name` .* not total, divergence"),
        ({"entropy": 1.0, "distill.losses.entropy:Entropy": 2.0}, "calls itself 'entropy'; give its class another"),
        ({"entropy": float("nan")}, r"--objective\.terms\.entropy must be finite, got nan"),
        ({"entropy": "much"}, r"--objective\.terms: entropy must be float, got 'much'"),
    ],
)
def test_terms_that_cannot_work_are_refused(make_config: Callable[..., Config], terms: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config(objective={"terms": terms})


class Averaged(Entropy):
    """Gives the mean where each state's loss is asked for."""

    name = "averaged"

    def loss(self, seen: Seen) -> Tensor:
        return super().loss(seen).mean()


class Deaf(Term):
    """Looks at the teacher alone."""

    def loss(self, seen: Seen) -> Tensor:
        return seen.teacher.square().sum(-1)


class Failing(Term):
    """Needs another number of actions."""

    def loss(self, seen: Seen) -> Tensor:
        return (seen.student * torch.ones(18)).sum(-1)


class Weightless(Entropy):
    """Has a schedule that forgets to return."""

    name = "weightless"

    def weight_at(self, step: int, total: int) -> float:
        return None  # type: ignore[return-value]


class Demanding(Entropy):
    """Asks for more than a weight."""

    name = "demanding"

    def __init__(self, weight: float, margin: float) -> None:
        super().__init__(weight + margin)


class Crooked(Entropy):
    """Writes out its slope in another shape."""

    name = "crooked"

    def slope(self, seen: Seen) -> tuple[Tensor, Tensor]:
        return self.loss(seen), seen.student.sum(0)


BAD = [
    ("Averaged", r"loss of averaged gives shape \(\), not \(2,\), a number for each state; mend it"),
    ("Deaf", r"deaf does not depend on seen\.student, so nothing learns from it; mend its loss"),
    ("Failing", r"failing fails on two random states \(RuntimeError: The size of tensor .*\); mend its class"),
    ("Weightless", r"weight_at of weightless gives None at step 0 of 100, not a number"),
    ("Crooked", r"slope of crooked gives \(2,\) and \(6,\) in place of \(2,\) and \(2, 6\); mend it"),
]


@pytest.mark.parametrize(("name", "message"), BAD)
def test_a_term_that_fails_is_refused_before_training(
    quick: Callable[..., Config], tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=rf"--objective\.terms: {message}"):
        train(quick("run", objective={"terms": {f"{__name__}:{name}": 1.0}}))
    assert not (tmp_path / "run").exists()


def test_a_term_that_takes_more_than_a_weight_is_refused(make_config: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"Demanding cannot be made with weight 1 \(TypeError: .*'margin'\); its class"):
        make_config(objective={"terms": {f"{__name__}:Demanding": 1.0}})


def test_a_mean_in_place_of_each_states_loss_is_refused_by_both(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net, batch = make_net(activation="tanh"), make_batch(batch=3, actions=5)
    objective = Objective(scale=2.5, terms=(Averaged(0.7),))
    for step in (Engine(net.path(), torch.float64).step, functools.partial(sobolev_loss, net)):
        with pytest.raises(UserError, match=r"loss of averaged gives shape \(\), not \(3,\)"):
            step(*batch, 0.3, objective)


def test_a_cuda_graph_records_none(quick: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"cuda_graph=true (records no objective\.terms|needs a CUDA device)"):
        train(quick(objective={"terms": {"entropy": 1.0}}, train={"cuda_graph": True}))


@pytest.mark.parametrize("engine", ["fast", "autograd"])
def test_a_training_with_terms_logs_them_by_name(quick: Callable[..., Config], engine: str) -> None:
    objective = {"terms": {f"{__name__}:Fading": 0.5, f"{__name__}:Everything": 0.01}}
    run = train(quick(objective=objective, train={"engine": engine}))
    seen = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = {tag for tag in seen.Tags()["scalars"] if tag.startswith("train/")}
    assert {"train/fading_loss", "train/fading_weight", "train/everything_loss", "train/kl_loss"} <= tags
    assert not {"train/jacobian_loss", "train/jacobian_weight"} & tags
    weights = {point.step: point.value for point in seen.Scalars("train/fading_weight")}
    assert weights == pytest.approx({step: 0.5 * (1 - (step - 1) / 11) for step in range(2, 13, 2)})
    assert [point.step for point in seen.Scalars("train/fading_loss")] == [2, 4, 6, 8, 10], (
        "at the end it has no weight"
    )
    assert load_student(run).training.objective["terms"] == objective["terms"]
    first, last = seen.Scalars("train/loss")[0].value, seen.Scalars("train/kl_loss")[0].value
    parts = [
        seen.Scalars(f"train/{name}_loss")[0].value * weight
        for name, weight in (("fading", weights[2]), ("everything", 0.01))
    ]
    assert first == pytest.approx(last + sum(parts), rel=1e-4)


def test_a_term_changes_what_is_learned(quick: Callable[..., Config]) -> None:
    plain = load_student(train(quick("plain"))).net
    other = load_student(train(quick("other", objective={"terms": {"entropy": 3.0}}))).net
    x = torch.rand(16, 4, 84, 84, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        policies = [F.softmax(net(x), -1) for net in (plain, other)]
    plainly, randomly = (-(policy * policy.log()).sum(-1).mean() for policy in policies)
    assert randomly > plainly


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ({"entropy": 0.1}, {"entropy": 0.2}, r"objective\.terms\.entropy was 0\.1, now 0\.2;"),
        ({"entropy": 0.1}, {}, r"objective\.terms\.entropy was 0\.1, now None;"),
        ({}, {"distill.losses.entropy:Entropy": 1.0}, r"terms\.distill\.losses\.entropy:Entropy was None, now 1\.0;"),
        (
            {"distill.losses.entropy:Entropy": 2.0},
            {"distill.losses.entropy:Entropy": 1.0},
            r"entropy:Entropy was 2\.0, now 1\.0",
        ),
    ],
)
def test_a_run_with_other_terms_is_another_run(
    quick: Callable[..., Config], before: dict[str, float], now: dict[str, float], change: str
) -> None:
    config = quick(objective={"terms": before})
    used = data_used(part(config, TrainRun), Dataset(config.train.data), np.arange(10))
    folder, _ = opened(part(config, TrainRun), used)
    assert opened(part(config, TrainRun), used) == (folder, False)
    (folder / "checkpoints").mkdir()  # what has not begun may be corrected
    (folder / "checkpoints" / "last.pt").touch()
    with pytest.raises(UserError, match=f"different run: .*{change}"):
        opened(part(quick(objective={"terms": now}), TrainRun), used)
