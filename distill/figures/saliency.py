"""Where teacher and students look: |J^T v| of the teacher's best action on held-out states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from distill.batches.source import Index
from distill.dataset.reader import Dataset
from distill.engine.step import make_engine
from distill.envs.games import game_info
from distill.figures.fidelity import input_gradient
from distill.figures.influence import influence_share
from distill.losses.matching import TINY
from distill.networks.nets import to_unit

SIGMA = 1.5
PEAK_PERCENTILE = 99.5

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Saliency:
    """Pictures of derivatives, the same v for every agent: zero-sum, e_a - 1/A, a the teacher's best action."""

    frames: npt.NDArray[np.uint8]
    """Newest frame of each state, uint8 (N, 84, 84)."""
    actions: list[str]
    """The teacher's best action in each state, by its name in the emulator."""
    probabilities: npt.NDArray[np.float64]
    """The teacher's probability of that action, float64 (N,)."""
    teacher: Maps | None
    """|J^T v| over the newest frame, smoothed, each state scaled to [0, 1]; float32 (N, 84, 84)."""
    students: dict[str, Maps]
    """The same by student."""
    cosines: dict[str, npt.NDArray[np.float64]]
    """By student: cosine of its J^T v and the teacher's, all four frames, unsmoothed; empty without a teacher."""
    influence: Saliency | None = None
    """Maps of the influence measure in place of derivatives, of the same states and agents."""


def choose_states(dataset: Dataset, held: Index, count: int = 5) -> Index:
    """States worth a look, one from each of ``count`` equal stretches of ``held``.

    Preferred are states in which much moves (the ball is in play), whose best action no earlier
    pick has shown, and of these the one where the teacher is surest.

    Args:
        dataset: where the states are.
        held: sorted indices of held-out states.
        count: states wanted; fewer where there are fewer.

    Returns:
        int64 (at most ``count``,), sorted.
    """
    policy = _softmax(dataset.logits[held])
    best, surest, moves = policy.argmax(-1), policy.max(-1), _in_motion(dataset, held)
    chosen: list[int] = []
    for stretch in np.array_split(np.arange(len(held)), min(count, len(held))):
        new = ~np.isin(best[stretch], best[chosen])
        rank = np.lexsort((surest[stretch], new, moves[stretch]))  # the last key weighs most
        chosen.append(int(stretch[rank[-1]]))
    return held[chosen]


def _in_motion(dataset: Dataset, index: Index) -> npt.NDArray[np.bool_]:
    """True where more pixels changed since the frame before than in the median state."""
    changed, is_cut = np.empty(len(index)), np.empty(len(index), np.bool_)
    for start in range(0, len(index), 256):
        before, now = dataset.stacks(index[start : start + 256])[:, -2:].swapaxes(0, 1)
        changed[start : start + 256] = (now != before).mean((1, 2))
        is_cut[start : start + 256] = ~before.any((1, 2))  # the stack starts here
    lively: npt.NDArray[np.bool_] = (changed >= np.median(changed)) & ~is_cut
    return lively


def saliency(
    dataset: Dataset, index: Index, teacher: nn.Module | None, students: Mapping[str, nn.Module], device: torch.device
) -> Saliency:
    """Differentiate every agent at the states ``index``.

    Args:
        dataset: gives observations and the teacher's logits.
        index: which states.
        teacher: the network that labelled the dataset, or None where it is not at hand.
        students: networks by name.
        device: where they run.
    """
    obs = dataset.stacks(index)
    x = to_unit(torch.from_numpy(obs).to(device))
    policy = _softmax(dataset.logits[index])
    best = policy.argmax(-1)
    v = np.eye(policy.shape[1], dtype=np.float32)[best] - np.float32(1 / policy.shape[1])
    seed = torch.from_numpy(v).to(device)

    def gradient(net: nn.Module) -> torch.Tensor:
        net = net.to(device)
        return input_gradient(net, make_engine(net), x, seed).cpu()

    gradients = {name: gradient(net) for name, net in students.items()}
    target = None if teacher is None else gradient(teacher)
    meanings = game_info(dataset.identity.game).actions
    return Saliency(
        frames=obs[:, -1],
        actions=[meanings[action] for action in best],
        probabilities=policy.max(-1),
        teacher=None if target is None else _shown(target),
        students={name: _shown(value) for name, value in gradients.items()},
        cosines={} if target is None else {name: _cosine(value, target) for name, value in gradients.items()},
    )


def influence_maps(
    dataset: Dataset, index: Index, teacher: nn.Module | None, students: Mapping[str, nn.Module], device: torch.device
) -> Saliency:
    """The influence measure of each pixel of the newest frame, as a share of its bound 1 / p_c - 1; else as above.

    Each agent's measure is of its own most likely action.
    """
    obs = dataset.stacks(index)
    pixels = torch.from_numpy(obs).to(device)
    policy = _softmax(dataset.logits[index])
    meanings = game_info(dataset.identity.game).actions

    def share(net: nn.Module) -> Maps:
        return influence_share(net.to(device), pixels).float().cpu().numpy()

    return Saliency(
        frames=obs[:, -1],
        actions=[meanings[action] for action in policy.argmax(-1)],
        probabilities=policy.max(-1),
        teacher=None if teacher is None else share(teacher),
        students={name: share(net) for name, net in students.items()},
        cosines={},
    )


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    policy: npt.NDArray[np.float64] = odds / odds.sum(-1, keepdims=True)
    return policy


def _shown(gradient: torch.Tensor) -> Maps:
    """|gradient| over the newest frame, smoothed; a few outliers must not darken all the rest."""
    smooth = gaussian_filter(gradient[:, -1].abs().numpy(), (0, SIGMA, SIGMA))
    peak = np.percentile(smooth, PEAK_PERCENTILE, axis=(1, 2), keepdims=True)
    shown: Maps = np.clip(smooth / np.maximum(peak, TINY), 0, 1).astype(np.float32)
    return shown


def _cosine(a: torch.Tensor, b: torch.Tensor) -> npt.NDArray[np.float64]:
    return torch.cosine_similarity(a.flatten(1).double(), b.flatten(1).double(), dim=1).numpy()
