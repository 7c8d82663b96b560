"""Passes by autograd are the fast engine's, for a network that both know."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from distill.engine.engine import Engine
from distill.engine.general import General
from distill.engine.step import make_passes
from distill.networks.nets import AtariCNN, NetSpec, to_unit

SPEC = NetSpec(((4, 8, 4), (4, 4, 2)), (7,), "tanh")


@pytest.fixture
def net() -> AtariCNN:
    torch.manual_seed(0)
    made = AtariCNN(SPEC, 5, value=True)
    with torch.no_grad():
        made.policy.weight.mul_(100)
    return made.eval()


@pytest.fixture
def obs() -> Tensor:
    return torch.randint(0, 256, (6, 4, 84, 84), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize("as_float", [False, True])
def test_logits_and_derivatives_equal_the_engines(net: AtariCNN, obs: Tensor, as_float: bool) -> None:
    general, engine = General(net), Engine(net.path(), frozen=True)
    x = to_unit(obs) if as_float else obs
    v = torch.randn(6, 3, 5)
    tape, other = general.forward(x), engine.forward(x)
    torch.testing.assert_close(tape.logits, other.logits)
    assert tape.value is not None
    torch.testing.assert_close(tape.value, net.logits_and_value(to_unit(obs))[1])
    assert not tape.logits.requires_grad
    torch.testing.assert_close(general.rows(tape, v), engine.rows(other, v), rtol=1e-4, atol=1e-6)


def test_several_tapes_join_as_one(net: AtariCNN, obs: Tensor) -> None:
    general, v = General(net), torch.randn(4, 2, 5)
    keep = torch.tensor([0, 2])
    whole = general.forward(torch.cat([obs[:2], obs[2:][keep]]))
    buffer = obs[:2].clone()
    first = general.forward(buffer)
    buffer.zero_()  # the environment writes its next stacks there
    joined = general.join([first, general.forward(obs[2:])], [None, keep])
    assert joined.value is not None
    torch.testing.assert_close(joined.logits, whole.logits)
    torch.testing.assert_close(joined.value, whole.value)
    torch.testing.assert_close(general.rows(joined, v), general.rows(whole, v))


def test_a_network_without_a_value_has_none(obs: Tensor) -> None:
    net = nn.Sequential(nn.AvgPool2d(21), nn.Flatten(), nn.Linear(64, 3), nn.GELU())
    passes = make_passes(net)
    assert isinstance(passes, General)
    tapes = [passes.forward(obs[:3]), passes.forward(obs[3:])]
    assert passes.join(tapes, [None, None]).value is None


def test_the_engine_passes_wherever_it_can(net: AtariCNN) -> None:
    assert isinstance(make_passes(net), Engine)
