"""An agent that plays under attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from distill.agents.actor import Policy
from distill.attack.method import ATTACKS, Scene
from distill.attack.settings import ThreatConfig
from distill.attack.victim import Victim
from distill.errors import UserError
from distill.networks.parts import draws_from
from distill.system.streams import generator, torch_generator


@dataclass(frozen=True)
class Assault:
    """An attack on whoever plays."""

    method: str
    """Its name."""
    eps: float
    """Its size, in gray levels."""
    share: float
    """Of the steps that are attacked, drawn anew at each."""
    threat: ThreatConfig
    """What else the attacker may do."""
    seed: int
    """Of what is drawn."""
    source: nn.Module | None = None
    """Who is asked for slopes and probabilities; by default the agent itself."""
    source_weights: str | None = None
    """SHA-256 of its weights: another agent of its name makes another attack."""

    def policy(self, net: nn.Module, device: torch.device, lane: int) -> Policy:
        """``net`` under attack, in a group of games whose first lane this is."""
        return Attacked(net, device, self, lane)

    def to_dict(self) -> dict[str, Any]:
        """What decides how it goes, for scores.json."""
        told = {"method": self.method, "eps": self.eps, "share": self.share, **asdict(self.threat)}
        return told if self.source_weights is None else {**told, "source_weights": self.source_weights}


def in_words(told: Mapping[str, Any]) -> str:
    """An assault's ``to_dict`` for people."""
    share = "every step" if told["share"] == 1 else f"{told['share']:.0%} of the steps"
    try:
        sized = ATTACKS.find(told["method"]).sized
    except UserError:  # of a package that is not here
        sized = True
    size = f", eps {told['eps']:g} of 255 ({told['norm']})" if sized else ""
    source = f", slopes of {told['source']}" if told["source"] else ""
    return f"under attack: {told['method']}{size}, {share}{source}"


class Attacked(Policy):
    """Acts on perturbed stacks.

    Args:
        net: as ``Policy``.
        device: likewise.
        assault: what is done to it.
        lane: first of its group of games; groups draw from streams of their own.
    """

    def __init__(self, net: nn.Module, device: torch.device, assault: Assault, lane: int) -> None:
        super().__init__(net, device, lane=lane)
        self._assault = assault
        self._attack = ATTACKS.find(assault.method)
        self._victim = Victim(assault.source or net, device, assault.threat.draws)
        self._chance = generator("attacked steps", assault.seed, lane)
        self._draws = torch_generator("attack", assault.seed, lane)

    def logits(self, obs: npt.NDArray[np.uint8]) -> Tensor:
        """As ``Policy.logits``, of what the attacker makes of ``obs``."""
        hit = np.flatnonzero(self._chance.random(len(obs)) < self._assault.share)
        if len(hit):
            x = torch.from_numpy(obs[hit]).to(self.device)
            scene = Scene(x, self._victim, self._assault.eps, self._assault.threat, self._draws)
            obs = obs.copy()
            with draws_from(self._draws):
                obs[hit] = self._attack.seen(scene).cpu().numpy()
        return super().logits(obs)
