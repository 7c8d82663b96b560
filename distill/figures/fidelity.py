"""Fidelity on held-out states: the paper's two figures, two more on the policy and two on derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

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
from distill.figures.figure import OWN, Derivatives, Figure, Outputs, from_sums, per_state, sums_of
from distill.losses.projection import cotangent
from distill.losses.settings import ObjectiveConfig
from distill.networks.nets import evaluating, to_unit
from distill.networks.parts import draws_from
from distill.system.streams import torch_generator

Figures = npt.NDArray[np.float64]
BATCH = 256


class Fidelity(SimpleNamespace):
    """Figures over held-out states by name: all of ``distill.figures.figure.OWN``, among them those below.

    ``vars`` gives them as a dictionary. Figures on derivatives are over the states that carry some, and None where
    none does.
    """

    kl: float
    """KL(teacher || student) in nats, teacher at the objective's temperature."""
    action_error: float
    """Share of states where the most likely actions differ."""
    jacobian_cosine: float | None
    """Cosine of the student's and the teacher's J^T v."""
    jacobian_relative_error: float | None
    """||J_S^T v - J_T^T v|| / ||J_T^T v||, root of the ratio of mean squares."""
    total_variation: float | None
    """Half the sum of |pi_T - pi_S|, teacher at the objective's temperature."""
    merged_action_error: float | None
    """Share of states where the most likely effects differ: actions that do the same count as one."""


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
    return Fidelity(**figures_of(net, engine, loader, index, temperature, OWN))


def fidelity_of_outputs(student: Tensor, teacher: Tensor, game: str) -> Fidelity:
    """Figures of logits alone, float (B, A) each, the teacher's after temperature; none on derivatives."""
    figures = [figure for figure in OWN if figure.needs == "outputs"]
    of = Outputs(student, teacher, torch.empty(0), merged_actions(game))
    sums = dict.fromkeys(sums_of(figures), 0.0)
    sums |= dict(zip([name for f in figures for name in f.sums], per_state(figures, of).sum(1).tolist(), strict=True))
    none = {figure.name: None for figure in OWN}
    return Fidelity(**none | from_sums(sums, len(student), figures))


def figures_of(
    net: nn.Module, engine: Engine | None, loader: Loader, index: Index, temperature: float, figures: Sequence[Figure]
) -> dict[str, float | None]:
    """``figures`` by name, None for those on derivatives where there are none; else as ``fidelity``."""
    by_state = dict(zip(sums_of(figures), state_sums(net, engine, loader, index, temperature, figures), strict=True))
    found = from_sums({name: float(values.sum()) for name, values in by_state.items()}, len(index), figures)
    quantiles = {f.name: float(np.quantile(by_state[f.sums[0]], f.quantile)) for f in figures if f.quantile is not None}
    return found | quantiles


def state_sums(
    net: nn.Module, engine: Engine | None, loader: Loader, index: Index, temperature: float, figures: Sequence[Figure]
) -> Figures:
    """What ``figures`` add up over states, float64 (len(sums_of(figures)), len(index))."""
    of_outputs, of_slopes = ([f for f in figures if f.needs == need] for need in ("outputs", "derivatives"))
    space, same = loader.dataset.identity.space, merged_actions(loader.dataset.identity.game)
    found = np.zeros((len(sums_of(figures)), len(index)))
    count = sum(len(figure.sums) for figure in of_outputs)
    with evaluating(net), draws_from(torch_generator("noise of figures", loader.seed)):
        for number, start in enumerate(range(0, len(index), BATCH)):
            states = index[start : start + BATCH]
            order, carrying = loader.carriers_first(states)
            batch = loader.load(states[order], number, carrying=carrying if of_slopes else 0)
            part = np.zeros((len(found), len(states)))
            with torch.no_grad():
                x = to_unit(batch.obs)
                logits = net(x)
                outputs = Outputs(logits, batch.logits / temperature, batch.obs, same, net)
                part[:count] = per_state(of_outputs, outputs).cpu().numpy()
            if batch.targets is not None:
                v = batch.targets.v
                part[count, :carrying] = v.shape[1]
                for k in range(v.shape[1]):
                    seed = cotangent(space, logits[:carrying], v[:, k])
                    student = input_gradient(net, engine, x[:carrying], seed).flatten(1)
                    slopes = Derivatives(student, batch.targets.row(k).flatten(1) / temperature)
                    part[count + 1 :, :carrying] += per_state(of_slopes, slopes).cpu().numpy()
            found[:, start + order] = part
    return found


def input_gradient(net: nn.Module, engine: Engine | None, x: Tensor, seed: Tensor) -> Tensor:
    """J^T seed of any network, float32 (B, 4, 84, 84) for seed (B, A)."""
    if engine is not None:
        return engine.vjp(x, seed.unsqueeze(1))[1].squeeze(1)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((net(x) * seed).sum(), x)
    return gradient
