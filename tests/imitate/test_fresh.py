"""Online with derivatives: a turn's gradient, what it costs, and what it is divided by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.agents.actor import Policy
from distill.config.config import Config
from distill.config.stages import rounds
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.imitate.fresh import Fresh
from distill.imitate.learner import Learner
from distill.imitate.player import STREAM, Player
from distill.imitate.progress import Progress
from distill.imitate.ring import Ring
from distill.losses.projection import zero_sum_basis
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Objective
from distill.networks.nets import AtariCNN, NetSpec
from distill.rounds.setup import make_objective
from distill.students.folder import load_student
from distill.system.streams import generator
from distill.train.hooks import Hook, Status
from distill.train.saver import Kept
from teachers.load import load_teacher
from teachers.protocol import Teacher

CPU = torch.device("cpu")
SPEC = NetSpec(((4, 8, 4), (4, 4, 2)), (16,))


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("pong")


@pytest.fixture(scope="module")
def ring(teacher: Teacher, make_config: Callable[..., Config]) -> Ring:
    """64 states of the teacher's games."""
    torch.manual_seed(0)
    ring = Ring(2, 64, {"logits": (6,), "value": (), "reward": (), "end": ()})
    config = make_config(imitate={"num_envs": 2})
    with Player(config, get_preset("sb3"), teacher, CPU) as player:
        while len(ring) < 64:
            ring.extend(player.play(Policy(AtariCNN(SPEC, 6), CPU), 8, 1.0).rows)
    return ring


def plain_loss(net: AtariCNN, teacher: Teacher, obs: Tensor, v: Tensor, objective: Objective, weight: float) -> Tensor:
    """The paper's loss in plain autograd; the teacher's derivatives are taken here, too."""
    x, count = (obs / 255).requires_grad_(), len(v)
    student, theirs = net(x), teacher(x) / objective.temperature
    log_p = theirs.log_softmax(-1).detach()
    divergence = (log_p.exp() * (log_p - student.log_softmax(-1))).sum(-1).mean()
    (ours,) = torch.autograd.grad((student[:count] * v).sum(), x, create_graph=True)
    (wanted,) = torch.autograd.grad((theirs[:count] * v).sum(), x)
    mismatch = (ours - wanted)[:count].flatten(1).square().sum(1).mean()
    return divergence + weight * mismatch / objective.scale


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_step_equals_plain_autograd(
    teacher: Teacher, ring: Ring, make_config: Callable[..., Config], temperature: float
) -> None:
    torch.manual_seed(3)
    net = AtariCNN(SPEC, 6)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    config = make_config(imitate={"num_envs": 2, "batch_size": 16, "max_grad_norm": 0.0})
    asked = ObjectiveConfig(jacobian_share=0.25, temperature=temperature)
    objective = make_objective(asked)
    progress = Progress()
    fresh = Fresh(teacher, objective, "sphere", 1, config.seed, CPU)
    kept = Kept(net, torch.optim.Adam(net.parameters(), lr=0.0), progress, {})
    learner = Learner(config, kept, CPU, objective, Path("run"), fresh)
    losses, norm = learner.update(ring, 5, 0.0, {"jacobian": 0.7})
    found = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None}

    rows = ring.draw(generator("batch", config.seed, STREAM, 5), 16)
    normal = generator("directions", config.seed, STREAM, 5).standard_normal((4, 1, 5), dtype=np.float32)
    v = torch.nn.functional.normalize(torch.from_numpy(normal), dim=-1)[:, 0] @ zero_sum_basis(6)
    net.load_state_dict(before)
    net.zero_grad()
    obs = torch.from_numpy(ring.stacks(rows)).float()
    scaled = dataclasses.replace(objective, scale=progress.jacobian_scale)
    loss = plain_loss(net, teacher, obs, v, scaled, 0.7)
    loss.backward()
    assert progress.jacobian_scale > 0
    assert float(losses.total) == pytest.approx(float(loss.detach()), rel=1e-4)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, rtol=2e-3, atol=1e-5 * float(norm), msg=name)


def test_s_is_the_mean_square_of_the_derivatives(teacher: Teacher, ring: Ring) -> None:
    """The law's mean, E ||J^T v||^2 = ||J_c||^2 / (A - 1), is met by draws of several directions."""
    fresh = Fresh(teacher, Objective(temperature=2.0), "sphere", 16, 1, CPU)
    rows = np.concatenate([ring.rows(0), ring.rows(1)])
    x = (torch.from_numpy(ring.stacks(rows)).float() / 255).requires_grad_()
    logits = teacher(x)
    squares = torch.zeros(len(x))
    for row in zero_sum_basis(6):
        (derivative,) = torch.autograd.grad((logits * row).sum(), x, retain_graph=True)
        squares += derivative.flatten(1).square().sum(1)
    # Rows are drawn with replacement, and a few states have most of it.
    drawn = ring.draw(generator("mean square", 1, STREAM), len(ring))
    place = {row: number for number, row in enumerate(rows.tolist())}
    expected = float(squares[[place[row] for row in drawn.tolist()]].mean()) / 5 / 4
    assert fresh.mean_square(ring) == pytest.approx(expected, rel=0.2)


def test_it_costs_no_more_than_its_share(
    quick: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher is asked for the derivatives of a quarter of each batch, in the first half of the budget only."""
    asked: list[int] = []
    matched: list[tuple[float, bool, float]] = []
    targets = Fresh.targets

    def counting(self: Fresh, obs: Tensor, logits: Tensor, rng: np.random.Generator) -> object:
        asked.append(len(obs))
        return targets(self, obs, logits, rng)

    class Watch(Hook):
        def stepped(self, now: Status) -> None:
            if now.losses is not None:
                matched.append((now.states / 480, "jacobian" in now.losses, now.learning_rate))

    monkeypatch.setattr(Fresh, "targets", counting)
    config = quick(
        tmp_path / "run",
        objective={"jacobian_share": 0.25, "jacobian_until": 0.5},
        rounds={"derivatives": True, "early_learning_rate": 0.001},
    )
    rounds(config, [Watch()])
    first, rest = asked[0], asked[1:]
    assert first <= 256  # what s is taken over
    assert set(rest) == {4}
    turns = sum(with_derivatives for _, with_derivatives, _ in matched)
    assert len(rest) == 2 * turns
    turn = 16 / 480
    assert [with_derivatives for _, with_derivatives, _ in matched] == [used - turn < 0.5 for used, _, _ in matched]
    first_rate, peak = matched[0][2], max(rate for *_, rate in matched)
    assert 0.001 < first_rate < peak < 0.003
    told = load_student(tmp_path / "run").training
    assert (told.jacobian_weight, told.objective["jacobian_share"], told.objective["jacobian_until"]) == (
        1.0,
        0.25,
        0.5,
    )
    assert told.jacobian_scale > 0


def test_a_teacher_without_derivatives(ring: Ring) -> None:
    net = AtariCNN(SPEC, 6)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    fresh = Fresh(Teacher.of(net, game="pong"), Objective(), "sphere", 1, 1, CPU)
    with pytest.raises(UserError, match=r"derivatives of teacher teacher are all zero, or not finite"):
        fresh.mean_square(ring)
