"""A value head for the student that teaches others: least squares on its last features, the network left as it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from distill.engine.engine import Engine
from distill.errors import UserError
from distill.imitate.ring import Index, Ring
from distill.networks.nets import AtariCNN
from distill.system.streams import generator

GAMMA = 0.99
"""SB3's and RL Zoo's."""
HORIZON = 500
"""Steps after which what is still to come counts as known to be little: 0.99^500 = 0.007."""
STATES, BATCH = 20_000, 256
RIDGE = 1e-6
"""Of the features' mean square: enough to solve with features that are always zero."""


def states_for(kind: str, lanes: int) -> int:
    """States of the ring that are enough to know some returns, wherever games begin and end."""
    return 2 * HORIZON * lanes if kind == "returns" else 0


def fit_value(net: AtariCNN, ring: Ring, lanes: int, kind: str, seed: int) -> tuple[nn.Linear, float]:
    """The head, and how much of the variance of its targets it explains on the states it was fitted on (R²).

    Args:
        net: the student.
        ring: states it played last.
        lanes: of the ring.
        kind: ``teacher``, its estimates, or ``returns``, the discounted clipped rewards until a life is lost.
        seed: draws at most ``STATES`` states.

    Raises:
        UserError: the teacher has no value head, or no state's rewards are known for long enough.
    """
    rows, targets = _teacher_values(ring, lanes) if kind == "teacher" else _returns(ring, lanes)
    if not len(rows):
        raise UserError(
            "no life ended in the ring, so no returns are known; use a larger --imitate.ring or value=teacher"
        )
    chosen = generator("value head", seed).permutation(len(rows))[:STATES]
    features = torch.cat(
        [_features(net, ring, rows[part]) for part in np.array_split(chosen, -(-len(chosen) // BATCH))]
    )
    x = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    y = torch.from_numpy(targets[chosen]).double()
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + ridge, x.T @ y)
    left, spread = (y - x @ weights).square().mean(), y.var(correction=0)
    head = nn.Linear(x.shape[1] - 1, 1)
    with torch.no_grad():
        head.weight.copy_(weights[:-1])
        head.bias.copy_(weights[-1])
    return head, float(1 - left / spread) if spread > 0 else float("nan")


def _features(net: AtariCNN, ring: Ring, rows: Index) -> torch.Tensor:
    """What the heads read, float32 (B, width) on the CPU."""
    device = net.policy.weight.device
    return Engine(net.path(), frozen=True).forward(torch.from_numpy(ring.stacks(rows)).to(device)).inputs[-1].cpu()


def _teacher_values(ring: Ring, lanes: int) -> tuple[Index, npt.NDArray[np.float32]]:
    rows = np.concatenate([ring.rows(lane) for lane in range(lanes)])
    return rows, ring.column("value", rows)


def _returns(ring: Ring, lanes: int) -> tuple[Index, npt.NDArray[np.float32]]:
    """States whose life ends in the ring or goes on for long enough, and their returns."""
    found = [
        lane_returns(ring.column("reward", rows), ring.column("end", rows)) for rows in map(ring.rows, range(lanes))
    ]
    rows = np.concatenate([ring.rows(lane)[known] for lane, (known, _) in enumerate(found)])
    return rows, np.concatenate([returns[known] for known, returns in found])


def lane_returns(
    reward: npt.NDArray[np.float32], end: npt.NDArray[np.float32], gamma: float = GAMMA, horizon: int = HORIZON
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Which states' returns are known, and the returns, of consecutive states of one lane.

    Args:
        reward: of each, float (T,).
        end: 1 where nothing after it counts, float (T,).
        gamma: discount factor.
        horizon: steps after which what is still to come counts as known to be little.
    """
    known, returns = np.zeros(len(reward), bool), np.zeros(len(reward), np.float32)
    after, steps, ended = 0.0, 0, False
    for t in reversed(range(len(reward))):
        after, steps, ended = (0.0, 0, True) if end[t] else (after, steps, ended)
        after, steps = float(reward[t]) + gamma * after, steps + 1
        known[t], returns[t] = ended or steps >= horizon, after
    return known, returns
