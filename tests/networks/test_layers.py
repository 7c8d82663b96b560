"""Which networks the engine takes, and what happens to the others."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from distill.engine.engine import Engine
from distill.engine.step import make_engine, make_step
from distill.losses.sobolev import Objective, sobolev_loss
from distill.losses.targets import Targets
from distill.networks.layers import SMOOTH, ReCU, known
from distill.networks.nets import ACTIVATIONS, NETS, AtariCNN

MakeNet = Callable[..., AtariCNN]
MakeBatch = Callable[..., tuple[Tensor, Tensor, Targets]]


class Doubled(nn.Linear):
    """A layer that is not what its class's parent computes."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Residual(nn.Module):
    """A tiny network with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 4, 8, 8)
        self.block = nn.Conv2d(4, 4, 3, 1, 1)
        self.head = nn.Linear(4 * 10 * 10, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.stem(x))
        return self.head((h + torch.tanh(self.block(h))).flatten(1))  # type: ignore[no-any-return]


def conv_net(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 8, 4), *layers, nn.Flatten(), nn.Linear(4 * 20 * 20, 5))


def gelu_net() -> nn.Sequential:
    return conv_net(nn.GELU())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", NETS)
def test_every_student_is_known(make_net: MakeNet, name: str, activation: str) -> None:
    assert known(make_net(NETS[name], activation).path())


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Softplus(), ReCU()])
def test_derivatives_of_smooth_activations(activation: nn.Module) -> None:
    a = torch.linspace(-3, 3, 61, dtype=torch.float64).requires_grad_()
    (first,) = torch.autograd.grad(activation(a).sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    smooth = SMOOTH[type(activation)]
    h = activation(a.detach())
    g = torch.linspace(1, 2, 61, dtype=torch.float64)
    torch.testing.assert_close(smooth.slope(h, g), first.detach() * g)
    torch.testing.assert_close(smooth.curvature(h, g), second * g)


def test_recu_is_a_cube_where_it_is_positive() -> None:
    assert ReCU()(torch.tensor([-2.0, 0.0, 0.5, 2.0])).tolist() == [0.0, 0.0, 0.125, 8.0]
    assert known(nn.Sequential(nn.Linear(3, 3), ReCU(), nn.Linear(3, 2)))


UNKNOWN = {
    "empty": nn.Sequential(),
    "gelu": gelu_net(),
    "dropout": conv_net(nn.ReLU(), nn.Dropout(0.5)),
    "batch norm": conv_net(nn.BatchNorm2d(4), nn.ReLU()),
    "another softplus": conv_net(nn.Softplus(beta=2)),
    "a softplus with a kink": conv_net(nn.Softplus(threshold=1)),
    "two activations in a row": conv_net(nn.ReLU(), nn.Tanh()),
    "activation first": nn.Sequential(nn.Tanh(), nn.Linear(3, 2)),
    "activation last": nn.Sequential(nn.Linear(3, 2), nn.Tanh()),
    "flatten first": nn.Sequential(nn.Flatten(), nn.Linear(3, 2)),
    "partial flatten": nn.Sequential(nn.Conv2d(4, 4, 8, 4), nn.Flatten(2), nn.Linear(400, 2)),
    "no flatten": nn.Sequential(nn.Conv2d(4, 4, 8, 4), nn.Linear(20, 2)),
    "no dense layer": nn.Sequential(nn.Conv2d(4, 5, 84), nn.Flatten()),
    "padding": nn.Sequential(nn.Conv2d(4, 4, 8, 4, padding=2), nn.Flatten(), nn.Linear(1764, 2)),
    "dilation": nn.Sequential(nn.Conv2d(4, 4, 3, 3, dilation=2), nn.Flatten(), nn.Linear(2916, 2)),
    "groups": nn.Sequential(nn.Conv2d(4, 4, 8, 4, groups=2), nn.Flatten(), nn.Linear(1600, 2)),
    "oblong kernel": nn.Sequential(nn.Conv2d(4, 4, (8, 4), 4), nn.Flatten(), nn.Linear(1680, 2)),
    "oblong stride": nn.Sequential(nn.Conv2d(4, 4, 8, (4, 2)), nn.Flatten(), nn.Linear(3120, 2)),
    "subclass": nn.Sequential(Doubled(3, 3), nn.ReLU(), nn.Linear(3, 2)),
    "parametrized": nn.Sequential(weight_norm(nn.Linear(3, 3)), nn.ReLU(), nn.Linear(3, 2)),
    "nested": nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Linear(3, 2)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_layers_are_refused(name: str) -> None:
    assert not known(UNKNOWN[name])
    assert make_engine(UNKNOWN[name]) is None
    with pytest.raises(ValueError, match="knows only sequences of Conv2d"):
        Engine(UNKNOWN[name])


def test_a_known_network_steps_by_its_engine(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    net = make_net()
    engine = make_engine(net)
    assert isinstance(engine, Engine)
    with caplog.at_level(logging.WARNING, "distill"):
        assert make_step(net, engine) == engine.step
    assert caplog.records == []
    assert isinstance(make_engine(net.path()), Engine)


@pytest.mark.parametrize("build", [gelu_net, Residual])
@pytest.mark.parametrize("as_uint8", [True, False])
def test_an_unknown_network_steps_by_autograd(
    make_batch: MakeBatch, caplog: pytest.LogCaptureFixture, build: Callable[[], nn.Module], as_uint8: bool
) -> None:
    torch.manual_seed(0)
    net = build()
    x, logits, targets = make_batch(dtype=torch.float32)
    obs = (x * 255).to(torch.uint8)
    x = obs / 255 if as_uint8 else x
    objective = Objective(scale=2.5, match="cosine", blur=1.0)
    assert make_engine(net) is None
    with caplog.at_level(logging.WARNING, "distill"):
        step = make_step(net, None)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert type(net).__name__ in record.getMessage()
    assert "autograd" in record.getMessage()

    want = sobolev_loss(net, x, logits, targets, 0.3, objective)
    want.total.backward()  # type: ignore[no-untyped-call]
    slopes = [parameter.grad for parameter in net.parameters()]
    net.zero_grad(set_to_none=True)
    got = step(obs if as_uint8 else x, logits, targets, 0.3, objective)
    for field in ("total", "divergence", "jacobian", "logits"):
        torch.testing.assert_close(getattr(got, field).detach(), getattr(want, field).detach())
    for parameter, slope in zip(net.parameters(), slopes, strict=True):
        torch.testing.assert_close(parameter.grad, slope)
    assert float(got.jacobian) > 0
