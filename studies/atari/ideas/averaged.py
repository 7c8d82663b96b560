"""Averaged weights: the student is the moving average of the weights on the way."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from distill.api import Hook, Status
from distill.networks.nets import AtariCNN
from studies.atari.ideas.idea import Idea

EMA = 0.999


class AveragedWeights(Idea):
    """See the module."""

    def hooks(self, net: AtariCNN) -> Sequence[Hook]:
        """See ``Idea``."""
        return [Average(net)]


class Average(Hook):
    """An exponential moving average of the weights, which takes their place at the end."""

    def __init__(self, net: nn.Module) -> None:
        self._net, self._mean = net, copy.deepcopy(net)

    def stepped(self, now: Status) -> None:
        """See ``Hook``; at the beginning the average forgets faster."""
        decay = min(EMA, now.step / (now.step + 10))
        with torch.no_grad():
            for mean, weight in zip(self._mean.parameters(), self._net.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)

    def ended(self, now: Status) -> None:
        """See ``Hook``."""
        self._net.load_state_dict(self._mean.state_dict())
