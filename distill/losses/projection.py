"""Laws of the projection vector v, and the output space its derivative is taken in.

Stochastic Sobolev training (Czarnecki et al. 2017, section 2, eq. 3) matches J(x)^T v for random v
in place of the whole Jacobian J(x), shape (A, 4*84*84). docs/concepts.md derives both laws.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.errors import UserError, nearest

LAWS = ("sphere", "fisher")
SPACES = ("logits", "log_probs", "probs")


def zero_sum_basis(num_actions: int) -> Tensor:
    """Orthonormal basis of the vectors that sum to zero, float (A - 1, A) (Helmert's matrix)."""
    rows = torch.arange(1, num_actions, dtype=torch.float64).unsqueeze(1)
    columns = torch.arange(num_actions, dtype=torch.float64).unsqueeze(0)
    basis = torch.where(columns < rows, 1.0, torch.where(columns == rows, -rows, 0.0))
    return (basis / (rows * (rows + 1)).sqrt()).float()


def sample(law: str, logits: Tensor, k: int, generator: torch.Generator, *, zero_sum: bool = True) -> Tensor:
    """Draw K projections a state.

    Args:
        law: ``sphere`` (uniform on the unit sphere) or ``fisher`` (E vv^T = diag(pi) - pi pi^T).
        logits: teacher's logits, float (B, A); only ``fisher`` depends on their values.
        k: projections per state.
        generator: CPU generator, so that draws do not depend on the device.
        zero_sum: restrict ``sphere`` to zero-sum vectors; False gives the paper's whole sphere.

    Returns:
        float32 (B, K, A), on the device of ``logits``.
    """
    batch, actions = logits.shape
    normal = torch.randn(batch, k, normals(law, actions, zero_sum=zero_sum), generator=generator)
    return from_normal(law, logits, normal, zero_sum=zero_sum)


def normals(law: str, num_actions: int, *, zero_sum: bool = True) -> int:
    """How many normal numbers one projection of ``law`` is made of."""
    return num_actions - 1 if law == "sphere" and zero_sum else num_actions


def from_normal(law: str, logits: Tensor, normal: Tensor, *, zero_sum: bool = True) -> Tensor:
    """The projections that ``sample`` makes of standard normal numbers, float (B, K, ``normals``) on the CPU."""
    actions = logits.shape[1]
    if law == "sphere":
        v = F.normalize(normal, dim=-1)
        return ((v @ zero_sum_basis(actions)) if zero_sum else v).to(logits.device)
    if law == "fisher":
        root = F.softmax(logits, -1).sqrt().unsqueeze(1)
        xi = normal.to(logits.device)
        return root * xi - root.square() * (root * xi).sum(-1, keepdim=True)
    raise _unknown_law(law)


def quadrature(law: str, logits: Tensor, *, zero_sum: bool = True) -> Tensor:
    """Vectors whose mean of ||J^T v||^2 equals the law's expectation exactly, for full Jacobians.

    ``sphere``: A - 1 rows, because E||J^T v||^2 = ||J_c||_F^2 / (A - 1) for the centred Jacobian.
    ``fisher``: A rows sqrt(A pi_a) (e_a - pi), because sum_a pi_a (e_a - pi)(e_a - pi)^T is the
    Fisher matrix.

    Returns:
        float32 (B, R, A).
    """
    batch, actions = logits.shape
    if law == "sphere":
        rows = zero_sum_basis(actions) if zero_sum else torch.eye(actions)
        return rows.to(logits.device).expand(batch, -1, -1)
    if law == "fisher":
        pi = F.softmax(logits, -1)
        rows = torch.eye(actions, device=logits.device) - pi.unsqueeze(1)
        return (actions * pi).sqrt().unsqueeze(-1) * rows
    raise _unknown_law(law)


def outputs(space: str, logits: Tensor) -> Tensor:
    """The vector whose derivative is matched, float (B, A)."""
    if space == "logits":
        return logits
    if space == "log_probs":
        return F.log_softmax(logits, -1)
    if space == "probs":
        return F.softmax(logits, -1)
    raise _unknown_space(space)


def cotangent(space: str, logits: Tensor, v: Tensor) -> Tensor:
    """(d outputs / d logits)^T v, float (B, A): the seed of the pass that gives J^T v."""
    if space == "logits":
        return v
    probs = F.softmax(logits, -1)
    if space == "log_probs":
        return v - probs * v.sum(-1, keepdim=True)
    if space == "probs":
        return _centred(probs, v)
    raise _unknown_space(space)


def cotangent_slope(space: str, logits: Tensor, v: Tensor, logits_dot: Tensor) -> Tensor:
    """Slope d <logits_dot, cotangent(logits)> / d logits: the softmax as one more smooth layer."""
    if space == "logits":
        return torch.zeros_like(logits)
    probs = F.softmax(logits, -1)
    if space == "log_probs":
        return -v.sum(-1, keepdim=True) * _centred(probs, logits_dot)
    if space == "probs":
        mean_v, mean_dot = ((probs * part).sum(-1, keepdim=True) for part in (v, logits_dot))
        return _centred(probs, v * logits_dot) - mean_dot * _centred(probs, v) - mean_v * _centred(probs, logits_dot)
    raise _unknown_space(space)


def _centred(probs: Tensor, w: Tensor) -> Tensor:
    """(diag(pi) - pi pi^T) w."""
    return probs * (w - (probs * w).sum(-1, keepdim=True))


def _unknown_space(space: str) -> UserError:
    return UserError(f"unknown space {space!r}{nearest(space, SPACES)}; known: {', '.join(SPACES)}")


def _unknown_law(law: str) -> UserError:
    return UserError(f"unknown law {law!r}{nearest(law, LAWS)}; known: {', '.join(LAWS)}")
