"""Who acts: the teacher, a student, or a mixture; by sampling, greedily or epsilon-greedily."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from distill.engine.general import GeneralTape
from distill.engine.step import make_passes
from distill.errors import UserError
from distill.networks.nets import described
from distill.networks.parts import draws_from
from distill.system.streams import torch_generator

Actions = npt.NDArray[np.int64]
Obs = npt.NDArray[np.uint8]


class Chance(Protocol):
    """What is random in a step, a row for every lane: a NumPy generator, or one for each lane's game."""

    def random(self, size: int, /) -> npt.NDArray[np.float64]:
        """Uniform in [0, 1), (N,)."""

    def gumbel(self, *, size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Standard Gumbel variables, (N, A)."""


class Uniform(nn.Module):
    """Prefers no action: who plays at random.

    Args:
        num_actions: among which it chooses.
    """

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions

    def forward(self, x: Tensor) -> Tensor:
        """Logits, all zero, float (B, A)."""
        return torch.zeros(len(x), self.num_actions, device=x.device)


class Policy:
    """A network ready to act on uint8 stacks.

    Args:
        net: the agent's network, float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A).
        device: where it runs.
        second_sight: it sees the environment's second stacks, not those that are recorded.
        lane: where its own noise begins, which has a stream for each: the first lane of its group of games, or the
            number of the first game or state that it plays, so that what goes on repeats none.
    """

    second_sight = False

    def __init__(self, net: nn.Module, device: torch.device, *, second_sight: bool = False, lane: int = 0) -> None:
        self.net, self.device, self.second_sight = net.to(device), device, second_sight
        self.passes = make_passes(net)
        self._noise = torch_generator("noise at play", lane)
        self.tape: Any = None
        """What the last forward pass left."""

    def logits(self, obs: npt.NDArray[np.uint8]) -> Tensor:
        """float32 (N, A) on the CPU for uint8 (N, 4, 84, 84)."""
        with torch.no_grad(), self.drawing():
            self.tape = self.passes.forward(torch.from_numpy(obs).to(self.device))
        return self.tape.logits.cpu()  # type: ignore[no-any-return]

    def drawing(self) -> AbstractContextManager[None]:
        """Noise of the network's own that is drawn meanwhile comes from this policy's stream."""
        return draws_from(self._noise)

    def value(self, tape: Any) -> Tensor | None:
        """The value, float (B,), that belongs to a forward pass; None for networks without one."""
        if isinstance(tape, GeneralTape):
            return tape.value
        # The head's input is the last stage's input: one pass serves policy and value.
        head = self.net.value if described(self.net) else None
        return None if head is None else head(tape.inputs[-1].float()).squeeze(-1)


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
    strict: bool = False
    """Refuse NaN and infinite logits, where nobody else looks at them."""

    def act(self, obs: Obs, chance: Chance, second_obs: Obs | None = None) -> Actions:
        """Actions int64 (N,).

        Args:
            obs: what is recorded, uint8 (N, 4, 84, 84).
            chance: where draws come from.
            second_obs: the same states as those with second sight see them, where there is any.

        Raises:
            UserError: NaN or infinite logits, where it is strict.
        """

        def logits(policy: Policy) -> npt.NDArray[np.float32]:
            sees = second_obs if policy.second_sight else obs
            assert sees is not None
            found: npt.NDArray[np.float32] = policy.logits(sees).numpy()
            if self.strict and not np.isfinite(found).all():
                raise UserError(
                    "NaN or infinite logits, of which no action follows; the agent's weights are damaged or far too "
                    "large, so name another"
                )
            return found

        actions = self._choose(logits(self.policy), chance)
        if self.expert is not None and self.beta > 0:
            takes_over = chance.random(len(obs)) < self.beta
            # Asked of all lanes, so that what a lane draws does not depend on the others.
            actions = np.where(takes_over, self._choose(logits(self.expert), chance), actions)
        return actions

    def _choose(self, logits: npt.NDArray[np.float32], chance: Chance) -> Actions:
        lanes, actions = logits.shape
        if self.behaviour == "sampled":
            # Gumbel-max: one draw per action and no normalisation.
            return (logits + chance.gumbel(size=(lanes, actions))).argmax(-1)  # type: ignore[no-any-return]
        best: Actions = logits.argmax(-1)
        if self.behaviour == "epsilon":
            explores = chance.random(lanes) < self.epsilon
            best = np.where(explores, (chance.random(lanes) * actions).astype(np.int64), best)
        return best
