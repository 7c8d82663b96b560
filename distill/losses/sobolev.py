"""The objective in plain autograd: the reference the fast engine is tested against.

    L = mean_b D(pi_T || pi_S)  +  lambda * mean_{b,k} match(J_S^T v, J_T^T v) / s  +  terms of one's own

The second mean is over the states whose derivatives are given, which may be fewer: the first ones of the batch.

(Czarnecki et al. 2017, eq. 1 and 3.) It needs double backward, so it costs several times a plain
step, but works for any network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.errors import UserError, nearest
from distill.losses.divergence import get_divergence, get_slope
from distill.losses.matching import MATCHES, TINY, blur_matrix
from distill.losses.projection import outputs
from distill.losses.schedule import jacobian_weight
from distill.losses.targets import Targets
from distill.losses.term import Seen, Term

Weights = float | Tensor | Mapping[str, float | Tensor]
"""Lambda, or weights of the objective's terms by name; a term that is not named has its own."""


class Divergence(Term):
    """Distance of the policies: the term that is always there, with weight 1."""

    name = "divergence"

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._distance, self._slope = get_divergence(kind), get_slope(kind)

    def loss(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        return self._distance(seen.student, seen.teacher)

    def slope(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """See ``Term``; written out."""
        return self._distance(seen.student, seen.teacher), self._slope(seen.student, seen.teacher)


class Sobolev(Term):
    """Mismatch of the derivatives. It depends on the student by more than its logits: the engine has passes for it."""

    name = "jacobian"
    derivatives = True

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective.jacobian_weight)
        self._objective = objective

    def weight_at(self, step: int, total: int) -> float:
        """Lambda at a step."""
        o = self._objective
        return jacobian_weight(step, total, self.weight, o.jacobian_schedule, o.jacobian_until)

    def loss(self, seen: Seen) -> Tensor:
        """See ``Term``; ``seen.student`` was computed from ``seen.pixels``, which require a gradient."""
        o, x, targets = self._objective, seen.pixels, seen.targets
        assert targets is not None
        blur = blur_matrix(o.blur, x.shape[-1]).to(x) if o.blur else None
        parts = []
        for k in range(targets.v.shape[1]):
            projected = (outputs(o.space, seen.student) * targets.v[:, k]).sum()
            (student,) = torch.autograd.grad(projected, x, create_graph=True)
            teacher = targets.row(k) / o.temperature
            parts.append(_differentiable_match(o, student, teacher, blur).mean())
        return torch.stack(parts).mean() / o.normaliser()


@dataclass(frozen=True)
class Objective:
    """What is minimised; ``ObjectiveConfig`` documents the choices."""

    divergence: str = "kl"
    space: str = "logits"
    match: str = "l2"
    blur: float = 0.0
    """Sigma in pixels of the low-pass on both derivatives; 0 is none."""
    temperature: float = 1.0
    """The teacher's logits and derivatives are divided by it; below 1 sharpens."""
    scale: float = 1.0
    """s: mean of ||J_T^T v||^2 over the training set, after temperature and blur."""
    jacobian_weight: float = 1.0
    """Lambda at the beginning."""
    jacobian_schedule: str = "constant"
    """How it goes on from there."""
    jacobian_until: float = 1.0
    """Share of the training after which it is 0."""
    jacobian_share: float = 1.0
    """Share of each batch, its first states, that carries derivatives."""
    terms: tuple[Term, ...] = ()
    """Terms of one's own."""

    def __post_init__(self) -> None:
        get_divergence(self.divergence)
        outputs(self.space, torch.zeros(1, 2))
        if self.match not in MATCHES:
            raise UserError(f"unknown match {self.match!r}{nearest(self.match, MATCHES)}; known: {', '.join(MATCHES)}")

    def normaliser(self) -> float:
        """What the derivative loss is divided by: s for l2, 1 for the dimensionless cosine."""
        return MATCHES[self.match].unit(self.scale)

    @property
    def derivatives(self) -> bool:
        """It reads the teacher's derivatives."""
        return self.jacobian_weight > 0 or any(term.derivatives for term in self.terms)

    def weights(self, step: int, total: int) -> dict[str, float]:
        """Weights of all terms but the divergence at a step (0, 1, ...) of so many."""
        terms = [Sobolev(self), *self.terms] if self.jacobian_weight > 0 else self.terms
        return {term.name: term.weight_at(step, total) for term in terms}

    def carrying(self, step: int, total: int, batch_size: int) -> int:
        """How many states of the batch of a step need the teacher's derivatives: none where no term reads them."""
        reads = any(term.derivatives for term in self.terms) or Sobolev(self).weight_at(step, total) > 0
        return states_of_share(self.jacobian_share, batch_size) if reads else 0

    def lambda_of(self, weights: Weights, targets: Targets | None) -> float | Tensor:
        """The Sobolev term's weight; 0 where it is left out, for want of targets too."""
        if targets is None:
            return 0.0
        return weights.get(Sobolev.name, 0.0) if isinstance(weights, Mapping) else weights

    def own(self, weights: Weights) -> list[tuple[Term, float | Tensor]]:
        """One's own terms with their weights, those that count."""
        named = weights if isinstance(weights, Mapping) else {}
        found = [(term, named.get(term.name, term.weight)) for term in self.terms]
        return [(term, weight) for term, weight in found if isinstance(weight, Tensor) or weight != 0]


def states_of_share(share: float, batch_size: int) -> int:
    """How many states a share of a batch is: at least one."""
    return max(1, round(share * batch_size))


class Losses(Mapping[str, Tensor]):
    """Means over the batch by name, float scalars: ``total``, ``divergence``, ``jacobian`` and one's own terms.

    Those of terms are before their weights; one that was not computed, for want of targets or because its weight is
    0, is not there.

    Args:
        total: the objective.
        terms: losses of its terms by name.
        logits: the student's, float (B, A).
    """

    def __init__(self, total: Tensor, terms: Mapping[str, Tensor], logits: Tensor) -> None:
        self._losses = {"total": total, **terms}
        self.logits = logits

    @property
    def total(self) -> Tensor:
        """The objective."""
        return self._losses["total"]

    @property
    def divergence(self) -> Tensor:
        """Its divergence."""
        return self._losses[Divergence.name]

    @property
    def jacobian(self) -> Tensor | None:
        """Its Sobolev term before lambda."""
        return self._losses.get(Sobolev.name)

    def __getitem__(self, name: str) -> Tensor:
        return self._losses[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._losses)

    def __len__(self) -> int:
        return len(self._losses)


def sobolev_loss(
    net: nn.Module, x: Tensor, teacher_logits: Tensor, targets: Targets | None, weight: Weights, objective: Objective
) -> Losses:
    """The whole objective as a differentiable scalar.

    Args:
        net: student, (B, 4, 84, 84) to logits.
        x: float pixels in [0, 1].
        teacher_logits: float (B, A), before temperature.
        targets: teacher's derivatives in ``objective.space``, before temperature, for all states or for the first
            ones; None for none.
        weight: lambda, or weights of terms by name.
        objective: choices.
    """
    jacobian = objective.lambda_of(weight, targets)
    with_jacobian = isinstance(jacobian, Tensor) or jacobian != 0
    count = len(targets.v) if targets is not None and with_jacobian else 0
    first = x[:count].detach().requires_grad_(count > 0)
    logits = net(first) if count == len(x) else net(x) if count == 0 else torch.cat([net(first), net(x[count:])])
    teacher = teacher_logits / objective.temperature
    seen = Seen(logits, teacher, x, targets)
    divergence: Term = Divergence(objective.divergence)
    total = divergence.loss(seen).mean()
    found = {divergence.name: total.detach()}
    parts: list[tuple[Term, Tensor, float | Tensor]] = []
    if with_jacobian:
        sobolev = Sobolev(objective)
        of_first = Seen(logits[:count], teacher[:count], first, targets)
        parts.append((sobolev, sobolev.loss(of_first), jacobian))
    parts += [(term, term.per_state(seen).mean(), factor) for term, factor in objective.own(weight)]
    for term, part, factor in parts:
        found[term.name] = part.detach()
        total = total + factor * part
    return Losses(total, found, logits.detach())


def _differentiable_match(o: Objective, student: Tensor, teacher: Tensor, blur: Tensor | None) -> Tensor:
    if blur is not None:
        student, teacher = blur @ student @ blur, blur @ teacher @ blur
    if o.match == "cosine":
        return 1 - torch.cosine_similarity(student.flatten(1), teacher.flatten(1), dim=1, eps=TINY)
    squares = (student - teacher).flatten(1).square().sum(1)
    if o.match == "weighted":
        return squares / (1 + teacher.flatten(1).square().sum(1) / o.scale)
    return squares.clamp_min(TINY**2).sqrt() if o.match == "norm" else squares
