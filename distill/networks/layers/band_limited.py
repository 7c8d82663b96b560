"""A convolution in the lowest frequencies, ``BandLimited2d`` (``student.band_limit``)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from distill.networks.layers.convolution import Convolution
from distill.networks.layers.layer import Affine, Made
from distill.networks.parts import BandLimited2d


class BandLimitedConvolution(Made, Convolution):
    """Products of a convolution with a low-pass before it, which is symmetric: its own transpose."""

    name = "band_limited"
    module = BandLimited2d

    @classmethod
    def fits(cls, module: nn.Module) -> bool:
        """See ``Affine``."""
        return super(Convolution, cls).fits(module)

    def foldable(self, x: Tensor) -> int:
        """Never, since the low-pass is of whole images."""
        return 1

    def seen(self, x: Tensor) -> Tensor:
        """See ``Affine``."""
        low: Tensor = self.layer.low(x)
        return low

    def transpose(self, g: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """See ``Affine``."""
        low: Tensor = self.layer.low(super().transpose(g, weight, shape))
        return low

    @property
    def _stride(self) -> int:
        stride: int = self.layer.step
        return stride


LAYER: type[Affine] = BandLimitedConvolution
