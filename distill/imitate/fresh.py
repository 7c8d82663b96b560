"""The teacher's derivatives, asked for where they are learned from: nothing of them is kept."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from distill.engine.step import make_passes
from distill.errors import UserError
from distill.imitate.player import STREAM
from distill.imitate.ring import Ring
from distill.losses.matching import blur_matrix
from distill.losses.projection import from_normal, normals
from distill.losses.sobolev import Objective
from distill.losses.targets import Targets
from distill.system.streams import generator
from teachers.protocol import Teacher

SCALE_STATES, SCALE_BATCH = 2048, 256
"""States whose derivatives' mean square is s."""
VANISHING = 1e-30


class Fresh:
    """Derivatives of the teacher's logits in random directions, drawn anew for every step.

    Args:
        teacher: who labels; it sees what the student sees.
        objective: its temperature and blur.
        law: of the directions.
        k: directions a state.
        seed: of the run.
        device: where both networks run.
    """

    def __init__(
        self, teacher: Teacher, objective: Objective, law: str, k: int, seed: int, device: torch.device
    ) -> None:
        self._passes, self._name = make_passes(teacher.net), teacher.info.name
        self._objective, self._law, self._k, self._seed, self._device = objective, law, k, seed, device

    def targets(self, obs: Tensor, logits: Tensor, rng: np.random.Generator) -> Targets:
        """J^T v of these states, uint8 (B, 4, 84, 84), and v, (B, K, A).

        Args:
            obs: the states.
            logits: the teacher's there, float (B, A), before temperature.
            rng: draws v.
        """
        batch, actions = logits.shape
        normal = rng.standard_normal((batch, self._k, normals(self._law, actions)), dtype=np.float32)
        with torch.no_grad():
            v = from_normal(self._law, logits / self._objective.temperature, torch.from_numpy(normal))
            return Targets(v, self._passes.rows(self._passes.forward(obs), v))

    def mean_square(self, ring: Ring) -> float:
        """s: mean of ||J_T^T v||^2 after temperature and blur, over at most 2,048 states of the ring.

        Raises:
            UserError: it is zero, NaN or infinite: there is nothing to match.
        """
        o = self._objective
        smooth = blur_matrix(o.blur).to(self._device) if o.blur else None
        rng, total = generator("mean square", self._seed, STREAM), 0.0
        rows = ring.draw(rng, min(SCALE_STATES, len(ring)))
        for part in np.array_split(rows, -(-len(rows) // SCALE_BATCH)):
            obs, logits = (
                torch.from_numpy(array).to(self._device) for array in (ring.stacks(part), ring.column("logits", part))
            )
            total += sum(self.targets(obs, logits, rng).square_sums(smooth))
        found = total / len(rows) / o.temperature**2
        if not math.isfinite(found) or found < VANISHING:
            raise UserError(
                f"the derivatives of teacher {self._name} are all zero, or not finite, so there is nothing to match; "
                "leave --rounds.derivatives out, or choose another teacher"
            )
        return found
