from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from distill.errors import UserError
from distill.losses.divergence import (
    DIVERGENCES,
    action_error,
    get_divergence,
    get_slope,
    merged_action_error,
    total_variation,
)


def by_torch_kl(student: Tensor, teacher: Tensor) -> Tensor:
    return kl_divergence(Categorical(logits=teacher), Categorical(logits=student))


REFERENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": by_torch_kl,
    "reverse_kl": lambda student, teacher: by_torch_kl(teacher, student),
    "ce": lambda student, teacher: -Categorical(logits=student).log_prob(teacher.argmax(-1)),
    "mse": lambda student, teacher: F.mse_loss(
        student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True), reduction="none"
    ).mean(1),
    "squared": lambda student, teacher: F.mse_loss(student, teacher, reduction="none").sum(1),
}
FOR_POLICIES = [name for name in DIVERGENCES if name != "squared"]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Student's and teacher's logits, (32, 6), from near uniform to near deterministic."""
    generator = torch.Generator().manual_seed(0)
    sharpness = torch.logspace(-2, 1.3, 32).unsqueeze(1)
    student, teacher = torch.randn(2, 32, 6, generator=generator, dtype=torch.float64)
    return student * sharpness, teacher * sharpness.flip(0)


def test_every_divergence_has_a_reference() -> None:
    assert REFERENCES.keys() == DIVERGENCES.keys()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equals_the_reference(pair: tuple[Tensor, Tensor], name: str) -> None:
    values = get_divergence(name)(*pair)
    assert values.shape == (32,)
    torch.testing.assert_close(values, REFERENCES[name](*pair))


def test_the_two_directions_of_kl_differ(pair: tuple[Tensor, Tensor]) -> None:
    assert not torch.allclose(DIVERGENCES["kl"](*pair), DIVERGENCES["reverse_kl"](*pair), rtol=0.1)


@pytest.mark.parametrize("name", FOR_POLICIES)
def test_is_positive_and_blind_to_a_shift(pair: tuple[Tensor, Tensor], name: str) -> None:
    student, teacher = pair
    divergence = get_divergence(name)
    values = divergence(student, teacher)
    assert (values > 0).all()
    torch.testing.assert_close(divergence(student + 7, teacher - 3), values)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "mse"])
def test_is_zero_for_the_teacher_itself(pair: tuple[Tensor, Tensor], name: str) -> None:
    _, teacher = pair
    assert get_divergence(name)(teacher + 1, teacher).abs().max() < 1e-12


def test_squared_is_regression_of_any_number_of_outputs(pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = pair
    torch.testing.assert_close(DIVERGENCES["squared"](teacher + 2, teacher), torch.full((32,), 24.0).double())
    first = DIVERGENCES["squared"](student[:, :1], teacher[:, :1])
    torch.testing.assert_close(first, (student[:, 0] - teacher[:, 0]).square())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_slope_is_autograds(pair: tuple[Tensor, Tensor], name: str) -> None:
    student, teacher = pair
    (want,) = torch.autograd.grad(get_divergence(name)(student.requires_grad_(), teacher).sum(), student)
    torch.testing.assert_close(get_slope(name)(student.detach(), teacher), want)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_survives_certain_teachers(name: str) -> None:
    """Q-values divided by tau = 0.01 give differences of hundreds: probabilities of exactly zero."""
    teacher = torch.tensor([[900.0, -900.0, 0.0]])
    student = torch.tensor([[-1.0, 2.0, 0.5]], requires_grad=True)
    value = get_divergence(name)(student, teacher).mean()
    (slope,) = torch.autograd.grad(value, student)
    assert torch.isfinite(value)
    assert torch.isfinite(slope).all()


def test_unknown_divergence_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown divergence 'reverse-kl' \(did you mean 'reverse_kl'\?\); known: kl,"):
        get_divergence("reverse-kl")


def test_action_error() -> None:
    student = torch.tensor([[0.0, 1.0, 2.0], [5.0, 1.0, 2.0], [0.0, 3.0, 1.0]])
    teacher = torch.tensor([[0.0, 1.0, 0.5], [9.0, 1.0, 2.0], [7.0, 3.0, 1.0]])
    assert action_error(student, teacher).tolist() == [1.0, 0.0, 1.0]


def test_total_variation() -> None:
    student = torch.tensor([[0.5, 0.3, 0.2], [1.0, 1e-20, 1e-20], [0.2, 0.3, 0.5]]).log()
    teacher = torch.tensor([[0.2, 0.3, 0.5], [1e-20, 1.0, 1e-20], [0.2, 0.3, 0.5]]).log()
    torch.testing.assert_close(total_variation(student + 7, teacher), torch.tensor([0.3, 1.0, 0.0]))


def test_merged_action_error_adds_probabilities_first() -> None:
    teacher = torch.tensor([[0.3, 0.4, 0.3]]).log().expand(3, 3)
    # The same split otherwise, another effect, and the same action with less behind its effect.
    student = torch.tensor([[0.4, 0.1, 0.5], [0.2, 0.6, 0.2], [0.35, 0.5, 0.15]]).log()
    assert merged_action_error(student, teacher, [(0, 2)]).tolist() == [0.0, 1.0, 0.0]
    assert action_error(student, teacher).tolist() == [1.0, 0.0, 0.0]
    assert merged_action_error(student, teacher, []).tolist() == action_error(student, teacher).tolist()
    assert merged_action_error(student, teacher, [(0, 1, 2)]).tolist() == [0.0, 0.0, 0.0]
