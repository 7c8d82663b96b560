"""A dense layer with noise on its weight, ``NoisyLinear`` (``student.noise``)."""

from __future__ import annotations

from torch import nn

from distill.networks.layers.dense import Dense
from distill.networks.layers.layer import Affine, Made
from distill.networks.parts import NoisyLinear


class NoisyDense(Made, Dense):
    """Given the noise of a pass, a dense layer; noise on its output is none that the engine knows."""

    name = "noisy_dense"
    module = NoisyLinear

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """See ``Affine``."""
        return super().fits(module) and bool(module.on_weights)


LAYER: type[Affine] = NoisyDense
