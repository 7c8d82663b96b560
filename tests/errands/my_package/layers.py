"""Two layers that the fast engine learns of: a smooth activation, and a dense layer that is blind to the background."""

import torch.nn.functional as F
from torch import nn

from distill.api import Activation, Affine, register_layer


class Bent(nn.Module):
    """x / 2 + sqrt(x^2 + 1) / 2."""

    def forward(self, x):
        return (x + (x * x + 1).sqrt()) / 2


def _slope(h, g):
    """x = h - 1 / (4 h), so phi' = 4 h^2 / (4 h^2 + 1)."""
    return g * (4 * h * h / (4 * h * h + 1))


def _curvature(h, g):
    return g * (32 * h**3 / (4 * h * h + 1) ** 3)


class Contrast(nn.Linear):
    """Sees how its input differs from the mean of it."""

    def forward(self, x):
        return super().forward(x - x.mean(-1, keepdim=True))


class ContrastProducts(Affine):
    name = "contrast"
    module = Contrast
    images = False

    def affine(self, x, weight, bias=None):
        return F.linear(x - x.mean(-1, keepdim=True), weight, bias)

    def transpose(self, g, weight, shape):
        back = g @ weight
        return back - back.mean(-1, keepdim=True)

    def weight_gradient(self, x, g, weight, into=None):
        x = x - x.mean(-1, keepdim=True)
        return g.T @ x if into is None else into.addmm_(g.T, x)


register_layer(Activation("bent", Bent, _slope, _curvature))
register_layer(ContrastProducts)


class Contrasts(nn.Module):
    def __init__(self, num_actions):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 4, 8, 4), Bent(), nn.Flatten(), Contrast(1600, 8), nn.Tanh(), nn.Linear(8, num_actions)
        )

    def forward(self, x):
        return self.layers(x)

    def path(self):
        return self.layers
