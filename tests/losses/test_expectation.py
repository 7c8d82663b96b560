"""The projected loss agrees in expectation with the loss over the whole Jacobian (Czarnecki et al. 2017, section 2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distill.engine.engine import Engine
from distill.losses.projection import quadrature, sample
from distill.losses.sobolev import Objective
from distill.losses.targets import Targets
from distill.networks.nets import NETS, AtariCNN, NetSpec

MakeNet = Callable[..., AtariCNN]
BATCH, ACTIONS = 2, 6
TEACHER = NetSpec(((8, 8, 4), (8, 4, 2)), (32,))


@pytest.fixture
def students(make_net: MakeNet) -> tuple[AtariCNN, AtariCNN, Tensor]:
    """A real student, a random teacher of another shape, and pixels."""
    student = make_net(NETS["mnih2013"], "tanh", ACTIONS, seed=0, dtype=torch.float32)
    teacher = make_net(TEACHER, "relu", ACTIONS, seed=1, dtype=torch.float32)
    return student, teacher, torch.rand(BATCH, 4, 84, 84, generator=torch.Generator().manual_seed(0))


def jacobian(net: AtariCNN, x: Tensor) -> Tensor:
    """(B, A, D) by autograd; differentiable."""
    x = x.clone().requires_grad_()
    logits = net(x)
    rows = [torch.autograd.grad(logits[:, a].sum(), x, create_graph=True)[0].flatten(1) for a in range(ACTIONS)]
    return torch.stack(rows, 1)


def metric(law: str, logits: Tensor) -> Tensor:
    """E vv^T, (B, A, A), written out from the definitions."""
    if law == "sphere":
        return (torch.eye(ACTIONS) - 1 / ACTIONS).expand(BATCH, -1, -1) / (ACTIONS - 1)
    pi = logits.softmax(-1)
    return torch.diag_embed(pi) - pi.unsqueeze(2) * pi.unsqueeze(1)


def full_loss(student: AtariCNN, teacher: AtariCNN, x: Tensor, law: str) -> Tensor:
    """mean_b tr(D^T M D) for D = J_S - J_T: for the sphere ||D_c||_F^2 / (A - 1)."""
    difference = jacobian(student, x) - jacobian(teacher, x).detach()
    square = difference @ difference.mT
    return (metric(law, teacher(x).detach()) * square).sum((1, 2)).mean()


def projected(student: AtariCNN, teacher: AtariCNN, x: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The engine's derivative loss and its gradient, the divergence's taken off."""
    engine = Engine(student.path())
    _, vjp = Engine(teacher.path()).vjp(x, v)
    student.zero_grad(set_to_none=True)
    # A teacher with the student's own logits has no divergence: only the derivative term has a gradient.
    losses = engine.step(x, student(x).detach(), Targets(v, vjp), 1.0, Objective())
    return losses.jacobian, [p.grad.clone() for p in student.parameters() if p.grad is not None]


@pytest.mark.parametrize("law", ["sphere", "fisher"])
def test_quadrature_is_the_full_loss(students: tuple[AtariCNN, AtariCNN, Tensor], law: str) -> None:
    student, teacher, x = students
    want = full_loss(student, teacher, x, law)
    slopes = torch.autograd.grad(want, list(student.parameters()), allow_unused=True, materialize_grads=True)
    loss, gradient = projected(student, teacher, x, quadrature(law, teacher(x).detach()))
    torch.testing.assert_close(loss, want.detach(), rtol=1e-4, atol=0)
    for got, slope in zip(gradient, slopes, strict=True):
        assert (got - slope).norm() <= 1e-4 * slope.norm() + 1e-6


@pytest.mark.parametrize("law", ["sphere", "fisher"])
def test_random_projections_agree_in_expectation(students: tuple[AtariCNN, AtariCNN, Tensor], law: str) -> None:
    student, teacher, x = students
    want = full_loss(student, teacher, x, law)
    slopes = torch.autograd.grad(want, list(student.parameters()), allow_unused=True, materialize_grads=True)
    draws = 300
    v = sample(law, teacher(x).detach(), draws, torch.Generator().manual_seed(2))
    loss, gradient = projected(student, teacher, x, v)
    difference = (jacobian(student, x) - jacobian(teacher, x)).detach()
    each = (v @ difference).square().sum(2).mean(0)
    assert float(loss) == pytest.approx(float(each.mean()), rel=1e-4)
    error = float(each.std()) / draws**0.5
    assert error < 0.08 * want.item(), "too few draws to tell"
    assert abs(float(loss) - want.item()) < 4 * error
    got, slope = (torch.cat([part.flatten() for part in parts]) for parts in (gradient, slopes))
    assert (got - slope).norm() < 0.35 * slope.norm()
    assert torch.cosine_similarity(got, slope, dim=0) > 0.95


def test_the_sphere_ignores_a_shift_of_the_logits(students: tuple[AtariCNN, AtariCNN, Tensor]) -> None:
    """A part of the Jacobian that all actions share moves the plain Frobenius norm, but not the loss."""
    student, teacher, x = students
    v = sample("sphere", teacher(x).detach(), 3, torch.Generator().manual_seed(3))
    before, _ = projected(student, teacher, x, v)
    with torch.no_grad():
        student.policy.weight += torch.randn(1, 256, generator=torch.Generator().manual_seed(4))
    after, _ = projected(student, teacher, x, v)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=0)
