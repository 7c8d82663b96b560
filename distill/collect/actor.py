"""Who acts: the teacher, a student, or a mixture; by sampling, greedily or epsilon-greedily."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.losses.engine import Engine, Tape
from distill.students.nets import AtariCNN

Actions = npt.NDArray[np.int64]


class Policy:
    """A network ready to act on uint8 stacks.

    Args:
        net: the agent's network.
        device: where it runs.
    """

    def __init__(self, net: AtariCNN, device: torch.device) -> None:
        self.net, self.device = net.to(device), device
        self.engine = Engine(net.path(), frozen=True)
        self.tape: Tape | None = None
        """What the last forward pass left."""

    def logits(self, obs: npt.NDArray[np.uint8]) -> Tensor:
        """float32 (N, A) on the CPU for uint8 (N, 4, 84, 84)."""
        with torch.no_grad():
            self.tape = self.engine.forward(torch.from_numpy(obs).to(self.device))
        return self.tape.logits.cpu()


@dataclass
class Actor:
    """Chooses an action for every lane; its random stream belongs to its seed alone."""

    policy: Policy
    """Whose actions are played."""
    behaviour: str = "sampled"
    """sampled, greedy or epsilon."""
    epsilon: float = 0.0
    """Share of uniform actions for ``epsilon``."""
    expert: Policy | None = None
    """Mixture: acts instead of ``policy`` ..."""
    beta: float = 0.0
    """... on this share of steps (Ross et al. 2011, DAgger)."""

    def act(self, obs: npt.NDArray[np.uint8], rng: np.random.Generator) -> Actions:
        """Actions int64 (N,) for uint8 (N, 4, 84, 84)."""
        actions = self._choose(self.policy, obs, rng)
        if self.expert is not None and self.beta > 0:
            take_expert = rng.random(len(obs)) < self.beta
            if take_expert.any():
                actions[take_expert] = self._choose(self.expert, obs[take_expert], rng)
        return actions

    def _choose(self, policy: Policy, obs: npt.NDArray[np.uint8], rng: np.random.Generator) -> Actions:
        logits = policy.logits(obs).numpy()
        if self.behaviour == "sampled":
            # Gumbel-max: one draw per action and no normalisation.
            return (logits + rng.gumbel(size=logits.shape)).argmax(-1)  # type: ignore[no-any-return]
        best: Actions = logits.argmax(-1)
        if self.behaviour == "epsilon":
            random = rng.random(len(obs)) < self.epsilon
            best[random] = rng.integers(logits.shape[1], size=int(random.sum()))
        return best
