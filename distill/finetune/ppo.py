"""stable-baselines3's PPO with a teacher's divergence in its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor, nn

from distill.errors import DivergedError
from distill.finetune.policy import StudentPolicy
from distill.losses.divergence import kl

Float32 = npt.NDArray[np.float32]


class Samples(NamedTuple):
    """A minibatch; all but the last field are SB3's."""

    observations: Tensor
    actions: Tensor
    old_values: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    teacher: Tensor | None
    """The teacher's logits, float (B, A); None where nobody teaches."""


class TaughtRollouts(RolloutBuffer):
    """What was played, and what the teacher says of it: asked once a state, not once an epoch."""

    labels: Float32 | None = None
    """The teacher's logits, (lanes * steps, A), lane by lane as SB3 flattens; None where nobody teaches."""
    seen: npt.NDArray[np.uint8] | None = None
    """What the teacher saw, (steps, lanes, 4, 84, 84), where that is not what the student saw."""

    def taught_obs(self) -> npt.NDArray[np.uint8]:
        """What the teacher saw of all states, uint8 (lanes * steps, 4, 84, 84), before ``get`` flattens the rest."""
        return self.swap_and_flatten(self.observations if self.seen is None else self.seen)

    def _get_samples(self, batch_inds: npt.NDArray[Any], env: Any = None) -> Samples:  # type: ignore[override]
        teacher = None if self.labels is None else self.to_torch(self.labels[batch_inds])
        return Samples(*super()._get_samples(batch_inds, env), teacher)


def losses(policy: StudentPolicy, batch: Samples, clip: float, *, clipped_kl: bool) -> dict[str, Tensor]:
    """Terms of the loss, each the mean over a minibatch: ``policy``, ``value``, ``entropy``, ``teacher``.

    Args:
        policy: who learns.
        batch: what it played.
        clip: PPO's clip range.
        clipped_kl: weigh each state's divergence by max(ratio, 1 - clip).
    """
    logits, values = policy.outputs(batch.observations)
    log_probs = logits.log_softmax(-1)
    log_prob = log_probs.gather(1, batch.actions.long().reshape(-1, 1)).squeeze(1)
    gain = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    ratio = (log_prob - batch.old_log_prob).exp()
    found = {
        "policy": -torch.min(gain * ratio, gain * ratio.clamp(1 - clip, 1 + clip)).mean(),
        "value": nn.functional.mse_loss(values, batch.returns),
        "entropy": (log_probs.exp() * log_probs).sum(-1).mean(),
    }
    if batch.teacher is not None:
        divergence = kl(logits, batch.teacher)
        found["teacher"] = ((ratio.clamp(min=1 - clip) * divergence) if clipped_kl else divergence).mean()
    return found


class TaughtPPO(PPO):
    """Plays and learns as SB3's PPO; ``train`` has the further term.

    Its callback sets ``teacher_weight`` and the buffer's labels after every rollout, before ``train``.
    """

    policy: StudentPolicy
    rollout_buffer: TaughtRollouts
    teacher_weight = 0.0
    clipped_kl = False
    before: Callable[[], bool] = staticmethod(lambda: False)
    """Asked before every update; True: it was spent on something else, and the policy stays as it is."""
    steps = 0
    """Optimizer steps, by this process."""
    told: Mapping[str, float] = {}
    """Means over the last update: of every loss, and of the gradient's norm before clipping."""

    def weights(self) -> dict[str, float]:
        """Of the losses, by name."""
        return {"policy": 1.0, "value": self.vf_coef, "entropy": self.ent_coef, "teacher": self.teacher_weight}

    def train(self) -> None:
        """Learn from the rollout.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite, and the weights are those of the step before; or the
                last step's weights are.
        """
        if self.before():
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert callable(self.clip_range)
        clip, weights = self.clip_range(self._current_progress_remaining), self.weights()
        parts: list[dict[str, float]] = []
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                assert isinstance(batch, Samples)
                found = losses(self.policy, batch, clip, clipped_kl=self.clipped_kl)
                self.policy.optimizer.zero_grad()
                total = sum((weights[name] * loss for name, loss in found.items()), torch.zeros(()))
                total.backward()
                norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                if not torch.isfinite(norm + total):
                    raise DivergedError(f"loss {total.item()}, gradient norm {norm.item()}")
                self.policy.optimizer.step()
                self.steps += 1
                parts.append({name: loss.item() for name, loss in found.items()} | {"grad_norm": norm.item()})
        if not all(torch.isfinite(weights).all() for weights in self.policy.parameters()):
            raise DivergedError("the last update left weights that are NaN or infinite")
        self.told = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
