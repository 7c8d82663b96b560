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
from distill.networks.layers.layer import LAYERS, Activation, activation_of, activations, affine_of, known
from distill.networks.layers.recu import ReCU
from distill.networks.nets import NETS, AtariCNN
from distill.networks.parts import BandLimited2d, NoisyConv2d, NoisyLinear, draws_from

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


@pytest.mark.parametrize("activation", activations())
@pytest.mark.parametrize("name", NETS)
def test_every_student_is_known(make_net: MakeNet, name: str, activation: str) -> None:
    assert known(make_net(NETS[name], activation).path())


@pytest.mark.parametrize("name", activations())
def test_derivatives_of_every_activation(name: str) -> None:
    kind = activations()[name]
    module = kind.module()
    assert activation_of(module) is kind
    a = torch.linspace(-3, 3, 60, dtype=torch.float64).requires_grad_()
    h = module(a)
    (first,) = torch.autograd.grad(h.sum(), a, create_graph=True)
    second = torch.autograd.grad(first.sum(), a)[0] if first.requires_grad else torch.zeros_like(a)
    h, g = h.detach(), torch.linspace(1, 2, 60, dtype=torch.float64)
    torch.testing.assert_close(kind.activate(module, a.detach().clone(), None), h)
    out = torch.zeros_like(h)
    assert kind.activate(module, a.detach().clone(), out) is out
    torch.testing.assert_close(out, h)
    torch.testing.assert_close(kind.slope(h, g.clone()), first.detach() * g)
    bend = torch.zeros_like(h) if kind.curvature is None else kind.curvature(h, g.clone())
    torch.testing.assert_close(bend, second * g)


AFFINE = {
    "dense": (nn.Linear(6, 4), (3, 6)),
    "convolution": (nn.Conv2d(2, 3, 4, 2), (3, 2, 8, 8)),
    "convolution without a bias": (nn.Conv2d(2, 3, 3, 1, bias=False), (3, 2, 5, 5)),
    "band_limited convolution": (BandLimited2d((2, 3, 4, 2), 9, 0.5), (3, 2, 9, 9)),
    "band_limited convolution that leaves nothing out": (BandLimited2d((2, 3, 4, 2), 8, 0.0), (3, 2, 8, 8)),
    "band_limited convolution with noise": (BandLimited2d((2, 3, 4, 2), 9, 0.5, (True, True)), (3, 2, 9, 9)),
    "noisy_dense white": (NoisyLinear((6, 4), True, False, True), (3, 6)),
    "noisy_dense coloured": (NoisyLinear((6, 4), True, True, True), (3, 6)),
    "noisy_convolution white": (NoisyConv2d((2, 3, 4, 2), 3, True, False, True), (3, 2, 8, 8)),
    "noisy_convolution coloured": (NoisyConv2d((2, 3, 4, 2), 3, True, True, True), (3, 2, 8, 8)),
}


@pytest.mark.parametrize("name", AFFINE)
def test_products_of_every_affine_layer(name: str) -> None:
    module, shape = AFFINE[name]
    kind = affine_of(module)
    assert kind is not None
    assert kind.images == (len(shape) == 4)
    generator = torch.Generator().manual_seed(1)
    products, x = kind(module), torch.randn(*shape, generator=generator).requires_grad_()
    with draws_from(torch.Generator().manual_seed(2)):
        weight = products.weight(torch.float32)
    with draws_from(torch.Generator().manual_seed(2)):
        y = module(x)
    torch.testing.assert_close(products.affine(products.seen(x), weight, products.bias(torch.float32)), y)
    g = torch.randn(*y.shape, generator=generator)
    named = dict(module.named_parameters())
    wanted = torch.autograd.grad((y * g).sum(), [x, *named.values()])
    torch.testing.assert_close(products.transpose(g, weight, shape), wanted[0])
    gradient = products.weight_gradient(products.seen(x.detach()), g, weight)
    products.add_gradient(gradient, g.sum(dim=(0, 2, 3) if g.dim() == 4 else 0))
    for parameter, want in zip(named.values(), wanted[1:], strict=True):
        torch.testing.assert_close(parameter.grad, want)
    twice = products.weight_gradient(products.seen(x.detach()), g, weight, gradient.clone())
    torch.testing.assert_close(twice, 2 * gradient)
    module.zero_grad()


def test_every_affine_layer_is_looked_at() -> None:
    kinds = {layer.name for layer in LAYERS.values() if not isinstance(layer, Activation)}
    assert kinds <= {name.partition(" ")[0] for name in AFFINE}


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
    "noise on an output": nn.Sequential(NoisyLinear((3, 3), False, False, True), nn.ReLU(), nn.Linear(3, 2)),
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
