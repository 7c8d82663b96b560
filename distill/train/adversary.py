"""Adversarial training: some states of each batch are attacked, and keep the label of the clean state."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import nn

from distill.attack.method import ATTACKS, Scene
from distill.attack.ready import try_one
from distill.attack.settings import ThreatConfig
from distill.attack.victim import Victim
from distill.batches.loader import Batch
from distill.losses.sobolev import states_of_share
from distill.networks.nets import evaluating
from distill.networks.parts import draws_from
from distill.system.streams import torch_generator
from distill.train.settings import TrainConfig, TrainRun
from distill.train.setup import Data

B = TypeVar("B", bound=Batch)


class Adversary:
    """Attacks the last states of each batch, those that carry no derivatives: these are of the clean pixels.

    Args:
        config: settings, with a ``train.adversary``.
        net: who is attacked; it attacks the network as it is at that step, in eval mode.
        data: what it trains on.
        rank: number of the process, each of which has its own draws.
    """

    def __init__(self, config: TrainRun, net: nn.Module, data: Data, rank: int = 0) -> None:
        t = config.train
        assert t.adversary is not None
        self._attack, self._net, self._config, self._rank = ATTACKS.find(t.adversary), net, t, rank
        self._seed, self._device = config.seed, data.loader.device
        self._threat = _threat(t)

    def attacked(self, batch: B, step: int) -> B:
        """The batch with attacked pixels; what is random depends on the seed and ``step``."""
        carrying = 0 if batch.targets is None else len(batch.targets.v)
        first = max(carrying, len(batch.obs) - states_of_share(self._config.adversary_share, len(batch.obs)))
        clean, draws = batch.obs[first:], torch_generator("adversary", self._seed, step, self._rank)
        if not len(clean):  # a short part of a batch, all of which carries derivatives
            return batch
        with evaluating(self._net), draws_from(draws):
            victim = Victim(self._net, self._device)
            seen = self._attack.seen(Scene(clean, victim, self._config.adversary_eps, self._threat, draws))
        return dataclasses.replace(batch, obs=torch.cat([batch.obs[:first], seen]))


def try_adversary(config: TrainRun, net: nn.Module) -> None:
    """Let the adversary attack two stacks, where there is one.

    Raises:
        UserError: it cannot attack this network.
    """
    t = config.train
    if t.adversary is None:
        return
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    with evaluating(net):
        try_one(t.adversary, "the student", Victim(net, device), _threat(t))


def told_of(t: TrainConfig) -> dict[str, Any] | None:
    """What a student's papers say of it, by the settings' names without ``adversary_``; None without one."""
    if t.adversary is None:
        return None
    told = {name: getattr(t, f"adversary_{name}") for name in ("eps", "share", "steps", "pixels")}
    return {"method": t.adversary, **told}


def _threat(t: TrainConfig) -> ThreatConfig:
    return ThreatConfig(steps=t.adversary_steps, pixels=t.adversary_pixels)
