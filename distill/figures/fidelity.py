"""Fidelity on held-out states: the paper's two figures, two more on the policy and two on derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from distill.batches.loader import Loader
from distill.batches.source import Index
from distill.dataset.reader import Dataset
from distill.engine.engine import Engine
from distill.engine.step import make_engine
from distill.envs.games import merged_actions
from distill.losses.divergence import action_error, kl, merged_action_error, total_variation
from distill.losses.matching import TINY
from distill.losses.projection import cotangent
from distill.losses.settings import ObjectiveConfig
from distill.networks.nets import evaluating, to_unit

Figures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fidelity:
    """Means over held-out states.

    Figures on derivatives are None where the dataset stores none, the last two where a student was
    scored before they were there.
    """

    kl: float
    """KL(teacher || student) in nats, teacher at the objective's temperature."""
    action_error: float
    """Share of states where the most likely actions differ."""
    jacobian_cosine: float | None
    """Cosine of the student's and the teacher's J^T v."""
    jacobian_relative_error: float | None
    """||J_S^T v - J_T^T v|| / ||J_T^T v||, root of the ratio of mean squares."""
    total_variation: float | None = None
    """Half the sum of |pi_T - pi_S|, teacher at the objective's temperature."""
    merged_action_error: float | None = None
    """Share of states where the most likely effects differ: actions that do the same count as one."""


SUMS = (
    "kl",
    "action_error",
    "total_variation",
    "merged_action_error",
    "jacobian_rows",
    "jacobian_cosine",
    "jacobian_difference",
    "jacobian_square",
)
"""What is added up over states: four figures on the policy, and of derivatives how many there are, their cosines, the
squares of their differences and those of the teacher's."""


def measure(
    net: nn.Module,
    dataset: Dataset,
    index: Index | None = None,
    *,
    temperature: float = 1.0,
    device: torch.device | str = "cpu",
    seed: int = 1,
) -> Fidelity:
    """Compare any network with the labels of a dataset.

    Args:
        net: (B, 4, 84, 84) pixels in [0, 1] to logits (B, A); moved to ``device``.
        dataset: holds states that the network was not trained on, if the figures are to mean anything.
        index: which of its states; by default all.
        temperature: divides the teacher's logits and derivatives.
        device: where to compute.
        seed: of projections, where the dataset does not bring its own.
    """
    index = np.arange(len(dataset)) if index is None else index
    net, device = net.to(device), torch.device(device)
    loader = Loader(dataset, ObjectiveConfig(), device, seed, None)
    return fidelity(net, make_engine(net), loader, index, temperature)


def fidelity(net: nn.Module, engine: Engine | None, loader: Loader, index: Index, temperature: float) -> Fidelity:
    """Compare a student with the teacher's labels.

    Args:
        net: the student.
        engine: its engine, or None to differentiate by autograd.
        loader: gives the states and, where stored, the derivatives.
        index: held-out states.
        temperature: divides the teacher's logits and derivatives.
    """
    return from_sums(state_figures(net, engine, loader, index, temperature).sum(1), len(index))


def from_sums(sums: Sequence[float] | Figures, states: int) -> Fidelity:
    """Means of what was added up over so many states, in the order of ``SUMS``."""
    kl, error, variation, merged, rows, cosine, difference, square = map(float, sums)
    return Fidelity(
        kl=kl / states,
        action_error=error / states,
        jacobian_cosine=cosine / rows if rows else None,
        jacobian_relative_error=math.sqrt(difference / max(square, TINY)) if rows else None,
        total_variation=variation / states,
        merged_action_error=merged / states,
    )


def state_figures(net: nn.Module, engine: Engine | None, loader: Loader, index: Index, temperature: float) -> Figures:
    """What ``fidelity`` adds up, float64 (len(SUMS), len(index)); its arguments are those of ``fidelity``."""
    derivatives = loader.dataset.has_jacobian or loader.online
    space, groups = loader.dataset.identity.space, merged_actions(loader.dataset.identity.game)
    found = np.zeros((len(SUMS), len(index)))
    with evaluating(net):
        for number, start in enumerate(range(0, len(index), 256)):
            batch = loader.load(index[start : start + 256], number, carrying=None if derivatives else 0)
            with torch.no_grad():
                x = to_unit(batch.obs)
                logits = net(x)
                part = found[:, start : start + len(x)]
                part[:4] = _policy_figures(logits, batch.logits / temperature, groups)
            if batch.targets is None:
                continue
            v = batch.targets.v
            for k in range(v.shape[1]):
                student = input_gradient(net, engine, x, cotangent(space, logits, v[:, k])).flatten(1)
                teacher = batch.targets.row(k).flatten(1) / temperature
                part[4:] += _slope_figures(student, teacher)
    return found


def _policy_figures(student: Tensor, teacher: Tensor, groups: Sequence[Sequence[int]]) -> Figures:
    """KL, action error, total variation and merged action error of logits (B, A): (4, B)."""
    figures = (
        kl(student, teacher),
        action_error(student, teacher),
        total_variation(student, teacher),
        merged_action_error(student, teacher, groups),
    )
    return torch.stack(figures).double().cpu().numpy()


def _slope_figures(student: Tensor, teacher: Tensor) -> Figures:
    """One, cosine, squared difference and the teacher's square of derivatives (B, pixels): (4, B)."""
    cosine = (student * teacher).sum(1) / (student.norm(dim=1) * teacher.norm(dim=1)).clamp_min(TINY)
    squares = (student - teacher).square().sum(1), teacher.square().sum(1)
    return torch.stack((torch.ones_like(cosine), cosine, *squares)).double().cpu().numpy()


def input_gradient(net: nn.Module, engine: Engine | None, x: Tensor, seed: Tensor) -> Tensor:
    """J^T seed of any network, float32 (B, 4, 84, 84) for seed (B, A)."""
    if engine is not None:
        return engine.vjp(x, seed.unsqueeze(1))[1].squeeze(1)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((net(x) * seed).sum(), x)
    return gradient
