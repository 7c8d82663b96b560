"""Terms of one's own are tried on two states before training begins: a mistake shows now, and not after hours."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError, first_line
from distill.losses.term import Seen, Term
from distill.system.streams import torch_generator

STEPS = 100
"""Of the training whose weights are asked for."""


def try_terms(terms: Sequence[Term], actions: int, device: str = "cpu") -> None:
    """Ask each term for its weight, and for its loss and slope where it reads no derivatives.

    Args:
        terms: of the objective.
        actions: how many logits there are.
        device: as in the settings; where there is no such device the trial is on the CPU.

    Raises:
        UserError: a term fails, gives something else than asked for, or does not depend on the student.
    """
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    for term in terms:
        try:
            _weights(term)
            if not term.derivatives:
                _loss(term, _two_states(actions, where))
        except UserError as error:
            raise UserError(f"--objective.terms: {error}") from error
        except Exception as error:
            raise UserError(
                f"--objective.terms: {term.name} fails on two random states ({type(error).__name__}: "
                f"{first_line(error)}); mend its class"
            ) from error


def _two_states(actions: int, device: torch.device) -> Seen:
    draws = torch_generator("trial of a term")
    student, teacher = (torch.randn(2, actions, generator=draws).to(device) for _ in range(2))
    pixels = torch.randint(0, 256, (2, *OBS_SHAPE), generator=draws, dtype=torch.uint8).to(device)
    return Seen(student.requires_grad_(), teacher, pixels, None)


def _weights(term: Term) -> None:
    for step in (0, STEPS - 1):
        weight: object = term.weight_at(step, STEPS)
        number = isinstance(weight, numbers.Real) or (isinstance(weight, Tensor) and weight.numel() == 1)
        if not number:
            raise UserError(f"weight_at of {term.name} gives {weight!r} at step {step} of {STEPS}, not a number")


def _loss(term: Term, seen: Seen) -> None:
    with torch.enable_grad():
        loss = term.per_state(seen)
        slope = torch.autograd.grad(loss.sum(), seen.student, allow_unused=True)[0] if loss.requires_grad else None
    if slope is None:
        raise UserError(f"{term.name} does not depend on seen.student, so nothing learns from it; mend its loss")
    with torch.no_grad():  # as the fast engine does
        losses, slopes = term.slope(seen)
    if losses.shape != loss.shape or slopes.shape != seen.student.shape:
        raise UserError(
            f"slope of {term.name} gives {tuple(losses.shape)} and {tuple(slopes.shape)} in place of "
            f"{tuple(loss.shape)} and {tuple(seen.student.shape)}; mend it"
        )
