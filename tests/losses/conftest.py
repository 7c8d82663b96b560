"""Small networks and batches with nothing near zero, so that every mix-up shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from distill.losses.projection import sample
from distill.losses.sobolev import Targets
from distill.students.nets import AtariCNN, NetSpec

SMALL = NetSpec(((4, 8, 4), (6, 4, 2)), (12,))
MakeNet = Callable[..., AtariCNN]
MakeBatch = Callable[..., tuple[Tensor, Tensor, Targets]]


@pytest.fixture
def make_net() -> MakeNet:
    """``make_net(spec, activation="tanh", actions=5)``: a float64 network whose policy is far from uniform.

    Fresh heads are nearly zero and fresh biases are: softmax would be flat and biases would not matter.
    """

    def make(
        spec: NetSpec = SMALL,
        activation: str = "relu",
        actions: int = 5,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> AtariCNN:
        torch.manual_seed(seed)
        net = AtariCNN(NetSpec(spec.convs, spec.hidden, activation), actions)
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.bias.normal_(0, 0.1)  # type: ignore[union-attr]
            net.policy.weight.mul_(100)
            if activation == "recu":  # cubes of cubes: their softmax would be certain and flat
                net.policy.weight.div_(net(torch.rand(8, 4, 84, 84)).std())
        return net.to(dtype)

    return make


@pytest.fixture
def make_batch() -> MakeBatch:
    """``make_batch(batch=3, k=2)``: pixels, a teacher's logits and derivatives as long as a small student's."""

    def make(
        batch: int = 3,
        actions: int = 5,
        k: int = 2,
        law: str = "sphere",
        zero_sum: bool = True,
        shape: tuple[int, ...] = (4, 84, 84),
        dtype: torch.dtype = torch.float64,
    ) -> tuple[Tensor, Tensor, Targets]:
        generator = torch.Generator().manual_seed(1)
        x = torch.rand(batch, *shape, generator=generator, dtype=dtype)
        logits = 2 * torch.randn(batch, actions, generator=generator, dtype=dtype)
        v = sample(law, logits, k, generator, zero_sum=zero_sum).to(dtype)
        vjp = 0.01 * torch.randn(batch, k, *shape, generator=generator, dtype=dtype)
        return x, logits, Targets(v, vjp)

    return make
