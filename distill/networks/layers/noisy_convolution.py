"""A convolution with noise on its weight, ``NoisyConv2d`` (``student.noise``)."""

from __future__ import annotations

from torch import nn

from distill.networks.layers.convolution import Convolution
from distill.networks.layers.layer import Affine, Made
from distill.networks.parts import NoisyConv2d


class NoisyConvolution(Made, Convolution):
    """Given the noise of a pass, a convolution; noise on its output is none that the engine knows."""

    name = "noisy_convolution"
    module = NoisyConv2d

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """See ``Affine``."""
        return super().fits(module) and bool(module.on_weights)


LAYER: type[Affine] = NoisyConvolution
