"""What the teacher says of recorded states: logits, value and derivatives, in large batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.agents.actor import Policy
from distill.dataset.codec import Encoded, encode
from distill.dataset.schema import FRAME, ShardArrays
from distill.envs.presets import STACK
from distill.errors import UserError
from distill.losses.projection import cotangent, from_normal
from distill.records.dataset import Identity
from teachers.protocol import Teacher


@dataclass
class Seen:
    """Some states of one step, as whoever acted left them."""

    normal: Tensor
    """What their projections are made of, standard normal, float32 (n, numbers a state)."""
    carries: npt.NDArray[np.bool_]
    """Which of them carry derivatives, bool (n,)."""
    tape: Any = None
    """The teacher's forward pass, where the teacher acted, and ..."""
    keep: Tensor | None = None
    """... which of its states, int64; None for all."""
    obs: npt.NDArray[np.uint8] | None = None
    """The states themselves, (n, 4, 84, 84), where somebody else acted."""


@dataclass
class Labels:
    """What the teacher says of a batch of states, in the dataset's arrays; derivatives of those that carry them."""

    logits: npt.NDArray[np.float32]
    value: npt.NDArray[np.float32] | None
    v: npt.NDArray[np.float32]
    jacobian: Encoded | None
    carries: npt.NDArray[np.bool_]
    """Which states carry derivatives, bool (n,)."""
    square_sum: float
    """Sum over these of the mean over rows of ||J^T v||^2 (0 without derivatives)."""


class Labeller:
    """Adds the teacher's labels to states.

    Args:
        policy: the teacher's network.
        identity: which derivatives, in which space, stored how.
        name: the teacher's, for errors.
    """

    def __init__(self, policy: Policy, identity: Identity, name: str) -> None:
        self.policy, self.identity, self.name = policy, identity, name

    @classmethod
    def of(cls, teacher: Teacher, identity: Identity, device: torch.device) -> Labeller:
        """A labeller with a network of its own."""
        return cls(Policy(teacher.net, device), identity, teacher.info.name)

    def label(self, block: Sequence[Seen]) -> Labels:
        """Labels of the states of several steps, in their order.

        Raises:
            UserError: NaN or infinity among them.
        """
        with torch.no_grad():
            tape, carries = self._tape(block), np.concatenate([seen.carries for seen in block])
            logits, value, normal = tape.logits, self.policy.value(tape), torch.cat([seen.normal for seen in block])
            if not carries.all():
                chosen = torch.from_numpy(np.flatnonzero(carries))
                tape, normal = self.policy.passes.join([tape], [chosen]), normal[chosen]
            v, rows = self._derivatives(tape, self._projections(tape.logits, normal))
            jacobian, square_sum = None, 0.0
            if rows is not None:
                square_sum = float(torch.linalg.vector_norm(rows).square()) / rows.shape[1]
                jacobian = encode(rows, self.identity.codec)
        host = None if value is None else value.cpu().numpy()
        labels = Labels(logits.cpu().numpy(), host, v.cpu().numpy(), jacobian, carries, square_sum)
        self._check(labels)
        return labels

    def _check(self, labels: Labels) -> None:
        # A NaN or Inf in any derivative shows in the sum of their squares.
        parts = {"logits": labels.logits, "values": labels.value, "projections": labels.v}
        for what, part in {**parts, "derivatives": np.float64(labels.square_sum)}.items():
            if part is not None and not np.isfinite(part).all():
                raise UserError(
                    f"teacher {self.name} gives NaN or infinite {what} (or their squares are); its weights are "
                    "damaged or far too large, so it cannot be distilled"
                )

    def say(self, obs: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor | None]:
        """Logits (B, A), and value (B,) or None, of one batch of uint8 stacks (B, 4, 84, 84)."""
        with torch.no_grad():
            tape = self._forward(obs)
            return tape.logits, self.policy.value(tape)

    def derive(
        self, obs: npt.NDArray[np.uint8], v: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Labels of one batch of uint8 stacks (B, 4, 84, 84), not yet compressed.

        Args:
            obs: states.
            v: projections (B, K, A), where the dataset stores projected derivatives.

        Returns:
            (logits (B, A), value (B,) or None, v (B, R, A), J^T v float32 (B, R, 4, 84, 84) or None).
        """
        with torch.no_grad():
            tape = self._forward(obs)
            return tape.logits, self.policy.value(tape), *self._derivatives(tape, v)

    def _projections(self, logits: Tensor, normal: Tensor) -> Tensor | None:
        """Projections (B, K, A) of the dataset's law, where it stores projected derivatives."""
        identity = self.identity
        if identity.jacobian != "projected":
            return None
        normal = normal.view(len(logits), identity.k, normal.shape[1] // identity.k)
        return from_normal(identity.law, logits, normal, zero_sum=identity.space == "logits")

    def _forward(self, obs: npt.NDArray[np.uint8]) -> Any:
        return self.policy.passes.forward(torch.from_numpy(obs).to(self.policy.device))

    def _tape(self, block: Sequence[Seen]) -> Any:
        tapes = [seen.tape for seen in block if seen.tape is not None]
        if len(tapes) == len(block):
            return self.policy.passes.join(tapes, [seen.keep for seen in block])
        return self._forward(np.concatenate([seen.obs for seen in block if seen.obs is not None]))

    def _derivatives(self, tape: Any, v: Tensor | None) -> tuple[Tensor, Tensor | None]:
        identity, logits = self.identity, tape.logits
        if identity.jacobian == "none":
            return logits[:, None], None
        if identity.jacobian == "full":
            v = torch.eye(logits.shape[1], device=logits.device).expand(len(logits), -1, -1)
        assert v is not None
        v = v.to(logits.device)
        seeds = torch.stack([cotangent(identity.space, logits, v[:, row]) for row in range(v.shape[1])], 1)
        if not len(v):  # nobody carries any
            return v, torch.zeros(0, v.shape[1], STACK, *FRAME)
        return v, self.policy.passes.rows(tape, seeds)


def fill(arrays: ShardArrays, blocks: Sequence[Labels], order: npt.NDArray[np.int64], identity: Identity) -> float:
    """Put labels, given in the order the states were played, where the shard's states are.

    Args:
        arrays: recorded states; logits, value, v, jacobian and its scales are filled in.
        blocks: labels.
        order: which of the labelled states each recorded one is.
        identity: which derivatives, of how many states.

    Returns:
        Sum over states that carry derivatives of the mean over rows of ||J^T v||^2.
    """
    arrays.logits = np.concatenate([block.logits for block in blocks])[order]
    values = [block.value for block in blocks if block.value is not None]
    arrays.value = np.concatenate(values)[order] if values else None
    encoded = [block.jacobian for block in blocks if block.jacobian is not None]
    if identity.jacobian_share < 1:
        carries = np.concatenate([block.carries for block in blocks])
        arrays.carries = carries[order]
        order = (np.cumsum(carries) - 1)[order[arrays.carries]]
    if encoded:
        projected = identity.jacobian == "projected"
        arrays.v = np.concatenate([block.v for block in blocks])[order] if projected else None
        arrays.row_scale = np.concatenate([part.row_scale for part in encoded])[order]
        arrays.gain = np.concatenate([part.gain for part in encoded])[order]
        # By far the largest array: one copy, not two.
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        arrays.jacobian = np.empty((len(order), *encoded[0].codes.shape[1:]), encoded[0].codes.dtype)
        start = 0
        for part in encoded:
            arrays.jacobian[place[start : start + len(part.codes)]] = part.codes
            start += len(part.codes)
    return sum(block.square_sum for block in blocks)
