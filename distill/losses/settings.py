"""Settings of the training objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.errors import UserError
from distill.system.ranges import ZERO_OR_MORE, Range, is_number
from distill.system.settings import Section, require

ROWS = Range("between 1 and 64", 1, 64)
"""Projections of a state: stored, or compared in a step."""
FRACTION = Range("above 0, and at most 1", 0, 1, without=(0,))


@dataclass(frozen=True)
class ObjectiveConfig(Section):
    """What is minimised: divergence + jacobian_weight * derivative mismatch / s."""

    divergence: Literal["kl", "reverse_kl", "ce", "mse"] = "kl"
    """Distance of policies: KL(teacher||student), KL(student||teacher), hard actions, logits."""
    temperature: float = 1.0
    """Teacher's logits (and derivatives) are divided by this; below 1 sharpens the policy."""
    jacobian_weight: float = 1.0
    """Lambda: weight of the Sobolev term. 0 is plain distillation."""
    jacobian_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Lambda over training: constant, or decayed to 0."""
    jacobian_until: float | Literal["auto"] = "auto"
    """Share of the training after which lambda is 0, and steps are plain ones; auto: by the passes over the data."""
    jacobian_share: float | Literal["auto"] = "auto"
    """Share of each batch, its first states, that carries derivatives; auto: 1/4, or the data's if that is less."""
    jacobian_targets: Literal["stored", "online"] = "stored"
    """Use the dataset's derivatives, or ask the teacher for fresh ones at every step."""
    jacobian_blur: float = 0.0
    """Sigma in pixels of a Gaussian low-pass on both derivatives before they are compared."""
    match: Literal["l2", "cosine", "norm", "weighted"] = "l2"
    """Compare derivatives by squared distance, direction, distance, or squared distance weighted by 1/(1+|t|^2/s)."""
    law: Literal["sphere", "fisher"] = "sphere"
    """Law of v for online targets and for full Jacobians (stored projections keep their own)."""
    k: int | None = None
    """Projections per state and step: fresh ones, or drawn from the stored ones; default: all stored, or 1 online."""
    input_noise: float = 0.0
    """Standard deviation, in gray levels (0..255), of Gaussian noise on the pixels; the teacher labels them afresh."""
    terms: dict[str, float] = field(default_factory=dict)
    """More terms and their weights: entropy, or package.module:Attribute, a Term of your own."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "temperature": Range("positive, from 1e-6 to 1e6", 1e-6, 1e6),  # its square is divided by
        "jacobian_weight": ZERO_OR_MORE,
        "jacobian_until": FRACTION,
        "jacobian_share": FRACTION,
        "jacobian_blur": ZERO_OR_MORE,
        "k": ROWS,
        "input_noise": Range("zero or more, and finite", 0),
    }

    @property
    def derivatives(self) -> bool:
        """It reads the teacher's derivatives: for the Sobolev term, or for a term that says so."""
        return self.own_derivatives or self.jacobian_weight > 0

    @property
    def own_derivatives(self) -> bool:
        """One of ``terms`` reads the teacher's derivatives."""
        if not self.terms:
            return False
        from distill.losses.terms import make_terms  # with PyTorch, which settings do not wait for

        return any(term.derivatives for term in make_terms(self.terms))

    def check(self) -> None:
        """Refuse terms that are not there, and derivatives of other pixels than those the student sees."""
        for name, weight in self.terms.items():
            require(is_number(weight), f"--objective.terms.{name}", weight, "finite")
        if self.derivatives and self.input_noise > 0 and self.jacobian_targets == "stored":
            raise UserError(
                f"--objective.input_noise={self.input_noise} moves the pixels away from where derivatives were stored; "
                "use --objective.jacobian_targets=online or --objective.jacobian_weight=0"
            )
