from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from distill.losses.projection import (
    LAWS,
    SPACES,
    cotangent,
    cotangent_slope,
    outputs,
    quadrature,
    sample,
    zero_sum_basis,
)


@pytest.fixture
def logits() -> Tensor:
    """A nearly uniform, a plain and a nearly certain policy, (3, 5)."""
    return torch.tensor([[0.0, 0.1, -0.1, 0.0, 0.05], [1.0, -1.0, 0.5, 2.0, 0.0], [9.0, 0.0, 1.0, -2.0, 3.0]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fisher(logits: Tensor) -> Tensor:
    pi = logits.softmax(-1)
    return torch.diag_embed(pi) - pi.unsqueeze(-1) * pi.unsqueeze(-2)


def centring(actions: int) -> Tensor:
    return torch.eye(actions) - 1 / actions


@pytest.mark.parametrize("actions", [2, 3, 6, 18])
def test_zero_sum_basis(actions: int) -> None:
    basis = zero_sum_basis(actions)
    assert basis.shape == (actions - 1, actions)
    torch.testing.assert_close(basis @ basis.T, torch.eye(actions - 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(basis.sum(1), torch.zeros(actions - 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(basis.T @ basis, centring(actions), atol=1e-6, rtol=0)


def test_sphere_draws_unit_vectors_that_sum_to_zero(logits: Tensor) -> None:
    v = sample("sphere", logits, 7, seeded())
    assert v.shape == (3, 7, 5)
    assert v.dtype == torch.float32
    torch.testing.assert_close(v.norm(dim=-1), torch.ones(3, 7))
    torch.testing.assert_close(v.sum(-1), torch.zeros(3, 7), atol=1e-6, rtol=0)


def test_the_whole_sphere(logits: Tensor) -> None:
    v = sample("sphere", logits, 7, seeded(), zero_sum=False)
    torch.testing.assert_close(v.norm(dim=-1), torch.ones(3, 7))
    assert v.sum(-1).abs().min() > 1e-3


@pytest.mark.parametrize("law", LAWS)
def test_draws_follow_their_generator(logits: Tensor, law: str) -> None:
    assert torch.equal(sample(law, logits, 2, seeded(3)), sample(law, logits, 2, seeded(3)))
    assert not torch.equal(sample(law, logits, 2, seeded(3)), sample(law, logits, 2, seeded(4)))


# 200,000 draws: a second moment of numbers of order one is off by about 1/450, so 0.015 is far outside.
DRAWS = 200_000


@pytest.mark.parametrize(("zero_sum", "want"), [(True, centring(5) / 4), (False, torch.eye(5) / 5)])
def test_moments_of_the_sphere(logits: Tensor, zero_sum: bool, want: Tensor) -> None:
    v = sample("sphere", logits[:1], DRAWS, seeded(), zero_sum=zero_sum)[0]
    assert v.mean(0).abs().max() < 0.01
    torch.testing.assert_close(v.T @ v / DRAWS, want, atol=0.005, rtol=0)


def test_moments_of_fisher(logits: Tensor) -> None:
    v = sample("fisher", logits, DRAWS, seeded())
    assert v.dtype == torch.float32
    torch.testing.assert_close(v.sum(-1), torch.zeros(3, DRAWS), atol=1e-5, rtol=0)
    assert v.mean(1).abs().max() < 0.01
    torch.testing.assert_close(v.mT @ v / DRAWS, fisher(logits), atol=0.01, rtol=0)
    # Actions that never happen do not count.
    assert fisher(logits)[2, 3, 3] < 1e-3 < fisher(logits)[0, 3, 3]


@pytest.mark.parametrize("zero_sum", [True, False])
def test_quadrature_has_the_laws_moments_exactly(logits: Tensor, zero_sum: bool) -> None:
    rows = quadrature("sphere", logits, zero_sum=zero_sum)
    want = centring(5) / 4 if zero_sum else torch.eye(5) / 5
    assert rows.shape == (3, 4 if zero_sum else 5, 5)
    torch.testing.assert_close(rows.mT @ rows / rows.shape[1], want.expand(3, -1, -1), atol=1e-6, rtol=0)


def test_quadrature_of_fisher_is_exact(logits: Tensor) -> None:
    rows = quadrature("fisher", logits)
    assert rows.shape == (3, 5, 5)
    torch.testing.assert_close(rows.mT @ rows / 5, fisher(logits), atol=1e-6, rtol=0)


def test_expected_square_is_the_centred_jacobian() -> None:
    """E ||J^T v||^2 = ||J_c||_F^2 / (A - 1), by quadrature exactly and by sampling within its error."""
    jacobian = torch.randn(6, 50, generator=seeded(1)) + torch.randn(1, 50, generator=seeded(2))
    want = float((jacobian - jacobian.mean(0)).square().sum()) / 5
    assert want < 0.8 * float(jacobian.square().sum()) / 5  # centring matters here
    logits = torch.zeros(1, 6)
    exact = (quadrature("sphere", logits)[0] @ jacobian).square().sum(1)
    assert float(exact.mean()) == pytest.approx(want, rel=1e-5)
    drawn = (sample("sphere", logits, DRAWS, seeded())[0] @ jacobian).square().sum(1)
    error = float(drawn.std()) / DRAWS**0.5
    assert error < 0.005 * want
    assert float(drawn.mean()) == pytest.approx(want, abs=4 * error)


@pytest.mark.parametrize("space", SPACES)
def test_cotangent_is_the_slope_of_the_outputs(logits: Tensor, space: str) -> None:
    v = sample("sphere", logits, 1, seeded(), zero_sum=False)[:, 0]
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: outputs(space, z)))(logits)
    want = (v.unsqueeze(1) @ jacobian).squeeze(1)
    torch.testing.assert_close(cotangent(space, logits, v), want)
    with torch.no_grad():
        torch.testing.assert_close(cotangent(space, logits, v), want)


@pytest.mark.parametrize("space", SPACES)
def test_cotangent_slope(logits: Tensor, space: str) -> None:
    v = sample("sphere", logits, 1, seeded(), zero_sum=False)[:, 0]
    dot = torch.randn(3, 5, generator=seeded(5))

    def inner(z: Tensor) -> Tensor:
        jacobian = torch.func.vmap(torch.func.jacrev(lambda one: outputs(space, one)))(z)
        return (dot * (v.unsqueeze(1) @ jacobian).squeeze(1)).sum()

    torch.testing.assert_close(cotangent_slope(space, logits, v, dot), torch.func.grad(inner)(logits))


@pytest.mark.parametrize("law", LAWS)
def test_logits_and_log_probs_agree_for_vectors_that_sum_to_zero(logits: Tensor, law: str) -> None:
    v = sample(law, logits, 1, seeded())[:, 0]
    torch.testing.assert_close(cotangent("log_probs", logits, v), cotangent("logits", logits, v), atol=1e-6, rtol=0)
    whole = sample("sphere", logits, 1, seeded(), zero_sum=False)[:, 0]
    assert not torch.allclose(cotangent("log_probs", logits, whole), whole, atol=1e-2)


def test_outputs(logits: Tensor) -> None:
    torch.testing.assert_close(outputs("log_probs", logits).exp(), outputs("probs", logits))
    torch.testing.assert_close(outputs("probs", logits).sum(-1), torch.ones(3))
    assert outputs("logits", logits) is logits


def test_unknown_names_suggest_the_nearest(logits: Tensor) -> None:
    with pytest.raises(UserError, match=r"unknown space 'log_prob' \(did you mean 'log_probs'\?\)"):
        outputs("log_prob", logits)
    for draw in (lambda: sample("fischer", logits, 1, seeded()), lambda: quadrature("fischer", logits)):
        with pytest.raises(UserError, match=r"unknown law 'fischer' \(did you mean 'fisher'\?\); known: sphere"):
            draw()
