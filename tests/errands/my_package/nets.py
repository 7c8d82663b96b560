"""A network with two paths from pixels to logits, which is no sequence of layers."""

import torch
from torch import nn

from distill.networks.registry import register_network


class TwoPaths(nn.Module):
    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(4, 4, 12, 12), nn.Tanh(), nn.Flatten())
        self.right = nn.Sequential(nn.AvgPool2d(12), nn.Flatten(), nn.Linear(4 * 49, 196), nn.Softplus())
        self.norm = nn.BatchNorm1d(196)
        self.head = nn.Linear(196, num_actions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.left(x) + self.right(x)))


register_network("two-paths", TwoPaths)
