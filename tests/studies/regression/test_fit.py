"""What is fitted is what is said: terms, units and errors, against plain autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from studies.regression.fit import Data, errors, fit, hessian_loss, make_data, make_net, predict
from studies.regression.functions import FUNCTIONS, sample

BOOTH = FUNCTIONS["booth"]


def test_data_is_standardised_by_its_own_points() -> None:
    data = make_data(BOOTH, 20, seed=1)
    u = data.u.double()
    value, gradient, hessian = BOOTH.jet(u)
    assert float(data.value.mean()) == pytest.approx(0, abs=1e-6)
    assert float(data.value.std()) == pytest.approx(1)
    torch.testing.assert_close(data.value[:, 0].double() * data.std + data.mean, value, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(data.gradient.double() * data.std, gradient, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(data.hessian.double() * data.std, hessian, rtol=1e-4, atol=1e-3)


def test_prediction_is_the_network_and_its_slope_in_the_functions_units() -> None:
    data, net = make_data(BOOTH, 20, seed=1), make_net("tanh", seed=2)
    u = sample(5, seed=4)
    value, gradient = predict(net, data, u)
    scaled = lambda one: net(one.float()).squeeze().double() * data.std + data.mean  # noqa: E731
    torch.testing.assert_close(value, torch.stack([scaled(one) for one in u]).detach(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(gradient, torch.func.vmap(torch.func.grad(scaled))(u), rtol=1e-4, atol=1e-3)


def test_errors_are_shares_of_the_spread() -> None:
    value, gradient, _ = BOOTH.jet(sample(50, seed=0))
    mean = value.mean().expand_as(value), gradient.mean(0).expand_as(gradient)
    assert errors(mean, (value, gradient)) == pytest.approx((1, 1))
    assert errors((value, gradient), (value, gradient)) == (0, 0)
    off = value + 0.3 * value.std(correction=0), gradient
    assert errors(off, (value, gradient)) == pytest.approx((0.3, 0))


@pytest.mark.parametrize("activation", ["tanh", "softplus", "recu"])
def test_hessian_loss_is_that_of_the_whole_hessian(activation: str) -> None:
    """Over directions e_1 and e_2 the products are the Hessian's columns: their squares add up to its norm."""
    net, u = make_net(activation, seed=0).double(), sample(4, seed=0)
    wanted = torch.randn(4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = wanted + wanted.mT
    axes = [axis.expand(4, 2) for axis in torch.eye(2, dtype=torch.float64)]
    got = sum(hessian_loss(net, u, axis, wanted) for axis in axes)
    hessian = torch.func.vmap(torch.func.hessian(lambda one: net(one).squeeze()))(u)
    torch.testing.assert_close(got, (hessian - wanted).square().sum((1, 2)).mean())


def fitted(data: Data, order: int, steps: int = 150) -> nn.Sequential:
    net = make_net("tanh", seed=0)
    fit(net, data, order, 1.0, steps, seed=0)
    return net


def mismatch(net: nn.Sequential, data: Data) -> tuple[float, float, float]:
    """Mean squares of value, gradient and Hessian at the points, as shares of the target's."""
    parts = torch.func.vmap(torch.func.grad(lambda one: net(one).squeeze()))(data.u)
    bent = torch.func.vmap(torch.func.hessian(lambda one: net(one).squeeze()))(data.u)
    pairs = ((net(data.u), data.value), (parts, data.gradient), (bent, data.hessian))
    return tuple(float((a - b).detach().square().sum() / b.square().sum()) for a, b in pairs)  # type: ignore[return-value]


def test_each_order_fits_its_derivative() -> None:
    data = make_data(FUNCTIONS["mccormick"], 10, seed=0)
    plain, first, second = (mismatch(fitted(data, order), data) for order in range(3))
    assert max(plain[0], first[0], second[0]) < 0.02
    assert first[1] < 0.1 * plain[1]
    assert second[2] < 0.1 * first[2]


def test_weight_counts_only_with_derivatives() -> None:
    data = make_data(BOOTH, 10, seed=0)
    nets = []
    for weight in (0.0, 5.0):
        net = make_net("relu", seed=0)
        fit(net, data, 0, weight, 3, seed=0)
        nets.append(net)
    assert torch.equal(nets[0](data.u), nets[1](data.u))


def test_more_points_than_a_batch_are_drawn_by_the_seed() -> None:
    data = make_data(BOOTH, 150, seed=0)
    outputs = []
    for seed in (0, 0, 1):
        net = make_net("relu", seed=0)
        fit(net, data, 1, 1.0, 3, seed)
        outputs.append(net(data.u))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
