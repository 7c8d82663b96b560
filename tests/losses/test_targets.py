"""Stored, compressed derivatives train exactly as their decoded selves."""

from __future__ import annotations

import pytest
import torch

from distill.engine.engine import Engine
from distill.engine.folding import fold_pixels
from distill.losses.sobolev import Objective, sobolev_loss
from distill.losses.targets import Targets
from distill.networks.nets import NETS, AtariCNN, to_unit


def stored_batch(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randint(0, 256, (4, 4, 84, 84), generator=generator, dtype=torch.uint8)
    codes = torch.randint(-127, 128, (4, 2, 4, 84, 84), generator=generator).to(dtype)
    scale = 1e-4 * torch.rand(4, 2, 4, 84, generator=generator)
    v = torch.randn(4, 2, 6, generator=generator)
    return obs, torch.randn(4, 6, generator=generator), Targets(v - v.mean(-1, keepdim=True), codes, scale)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16])
@pytest.mark.parametrize(
    "objective", [Objective(), Objective(temperature=0.5), Objective(blur=1.0), Objective(match="cosine")]
)
def test_engine_on_bytes_equals_autograd_on_floats(dtype: torch.dtype, objective: Objective) -> None:
    torch.manual_seed(0)
    net = AtariCNN(NETS["mnih2013"], 6)
    obs, logits, targets = stored_batch(dtype)
    dense = Targets(targets.v, targets.vjp.float() * targets.scale.unsqueeze(-1))
    sobolev_loss(net, to_unit(obs), logits, dense, 0.5, objective).total.backward()
    want = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    net.zero_grad()
    Engine(net.path()).step(obs, logits, targets, 0.5, objective)
    got = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    assert (got - want).norm() <= 1e-5 * want.norm()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("fold", [2, 3, 4])
def test_fold_pixels_is_pixel_unshuffle(dtype: torch.dtype, fold: int) -> None:
    x = torch.randint(0, 100, (2, 3, 12, 24)).to(dtype)
    folded = fold_pixels(x, fold)
    assert torch.equal(folded, torch.nn.functional.pixel_unshuffle(x, fold))
    assert folded.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NETS)
def test_gradients_lie_in_memory_as_their_parameters_do(name: str) -> None:
    """Fused optimizers read both as flat memory."""
    net = AtariCNN(NETS[name], 6)
    Engine(net.path()).step(*stored_batch(torch.int8), 0.5, Objective())
    for parameter in net.parameters():
        if parameter.grad is not None:  # the value head has none
            assert parameter.grad.stride() == parameter.stride()
