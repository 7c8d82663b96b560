"""What the teacher says of recorded states: logits, value and derivatives, in large batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.dataset.codec import Encoded, encode
from distill.dataset.schema import Identity, ShardArrays, gather_stacks
from distill.losses.engine import Engine
from distill.losses.projection import cotangent, sample
from teachers.protocol import Teacher

BATCH = 256


class Labeller:
    """Adds the teacher's labels to recorded states.

    Args:
        teacher: who labels.
        identity: which derivatives, in which space, stored how.
        device: where to compute.
    """

    def __init__(self, teacher: Teacher, identity: Identity, device: torch.device) -> None:
        self.teacher, self.identity, self.device = teacher.to(device), identity, device
        self._engine = Engine(teacher.net.path())

    def label(self, arrays: ShardArrays, seed: list[int]) -> float:
        """Fill logits, value, v, jacobian and its scales in place.

        Args:
            arrays: recorded states.
            seed: seeds the projections of this shard.

        Returns:
            Sum over states of the mean over rows of ||J^T v||^2 (0 without derivatives).
        """
        n, actions = len(arrays), self.teacher.info.num_actions
        generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
        arrays.logits = np.empty((n, actions), np.float32)
        value = np.empty(n, np.float32) if self.teacher.net.value is not None else None
        encoded: list[Encoded] = []
        projections: list[npt.NDArray[np.float32]] = []
        total = 0.0
        for start in range(0, n, BATCH):
            part = slice(start, min(start + BATCH, n))
            logits, values, v, rows = self.derive(gather_stacks(arrays.frames, arrays.pos[part]), generator)
            arrays.logits[part] = logits.cpu()
            if value is not None and values is not None:
                value[part] = values.cpu()
            if rows is not None:
                total += float(torch.linalg.vector_norm(rows).square()) / rows.shape[1]
                encoded.append(encode(rows, self.identity.codec))
                projections.append(v.cpu().numpy())
        arrays.value = value
        if encoded:
            arrays.v = np.concatenate(projections) if self.identity.jacobian == "projected" else None
            arrays.jacobian = np.concatenate([e.codes for e in encoded])
            arrays.row_scale = np.concatenate([e.row_scale for e in encoded])
            arrays.gain = np.concatenate([e.gain for e in encoded])
        return total

    def derive(
        self, obs: npt.NDArray[np.uint8], generator: torch.Generator, v: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Labels of one batch of uint8 stacks (B, 4, 84, 84).

        Args:
            obs: states.
            generator: draws the projections where ``v`` is not given.
            v: projections (B, K, A) to use.

        Returns:
            (logits (B, A), value (B,) or None, v (B, R, A), J^T v float32 (B, R, 4, 84, 84) or None).
        """
        identity = self.identity
        with torch.no_grad():
            tape = self._engine.forward(torch.from_numpy(obs).to(self.device))
            head = self.teacher.net.value
            # The head's input is the last stage's input: one pass serves policy and value.
            value = None if head is None else head(tape.inputs[-1].float()).squeeze(-1)
            if identity.jacobian == "none":
                return tape.logits, value, tape.logits[:, None], None
            if identity.jacobian == "full":
                v = torch.eye(tape.logits.shape[1], device=self.device).expand(len(obs), -1, -1)
            elif v is None:
                zero_sum = identity.space == "logits"
                v = sample(identity.law, tape.logits, identity.k, generator, zero_sum=zero_sum)
            v = v.to(self.device)
            seeds = torch.stack([cotangent(identity.space, tape.logits, v[:, row]) for row in range(v.shape[1])], 1)
            return tape.logits, value, v, self._engine.rows(tape, seeds)
