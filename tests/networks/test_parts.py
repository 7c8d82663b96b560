"""Band-limited convolutions and noise by their definitions, and networks with them against autograd."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.engine.engine import Engine
from distill.engine.step import make_engine, make_step
from distill.errors import UserError
from distill.losses.sobolev import Objective, sobolev_loss
from distill.losses.targets import Targets
from distill.networks.nets import NETS, AtariCNN, NetSpec, count_parameters, draws_at_play
from distill.networks.parts import RANK, BandLimited2d, Noise, NoisyConv2d, NoisyLinear, cosines, draws_from, low_pass

MakeBatch = Callable[..., tuple[Tensor, Tensor, Targets]]
SMALL = NetSpec(((4, 8, 4), (6, 4, 2)), (12,), "tanh")
OPTIONS: dict[str, dict[str, Any]] = {
    "band limit": {"band_limit": (0.5, 0.3)},
    "band limit of one": {"band_limit": (0.0, 0.5)},
    "white": {"noise": "white"},
    "coloured": {"noise": "coloured"},
    "band limit and noise": {"band_limit": (0.5, 0.0), "noise": "coloured"},
}


def seeded(seed: int) -> Any:
    return draws_from(torch.Generator().manual_seed(seed))


def make(**options: Any) -> AtariCNN:
    torch.manual_seed(0)
    net = AtariCNN(dataclasses.replace(SMALL, **options), 5).double()
    with torch.no_grad():
        net.policy.weight.mul_(100)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | BandLimited2d):
                module.bias.normal_(0, 0.1)  # type: ignore[union-attr]
    return net


@pytest.mark.parametrize(("size", "cut"), [(84, 0.5), (20, 0.3), (9, 0.5), (84, 0.9), (8, 0.0), (9, 0.0)])
def test_the_low_pass_keeps_the_lowest_frequencies(size: int, cut: float) -> None:
    x = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = low_pass(size, cut)
    frequency = torch.fft.fftfreq(size, 1 / size).abs().round()
    kept = int(torch.linalg.matrix_rank(matrix))
    inside = (frequency <= (kept // 2)).double()
    wanted = torch.fft.ifft2(torch.fft.fft2(x) * inside[:, None] * inside)
    torch.testing.assert_close(matrix @ x @ matrix, wanted.real)
    assert abs((1 - cut) ** 0.5 * size - kept) <= 1  # an odd number along an axis, or all


def test_a_band_limited_convolution_is_the_papers() -> None:
    layer = BandLimited2d((2, 3, 4, 2), 12, 0.6).double()
    x = torch.randn(5, 2, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    highest = (int(torch.linalg.matrix_rank(low_pass(12, 0.6))) - 1) // 2
    frequency = torch.fft.fftfreq(12, 1 / 12).abs().round() <= highest
    mask = (frequency[:, None] & frequency).double()
    image, kernel = mask * torch.fft.fft2(x), mask * torch.fft.fft2(layer.made().detach(), s=(12, 12))
    product = torch.einsum("bihw,oihw->bohw", image, kernel.conj())
    wanted = torch.fft.ifft2(product).real[..., :9:2, :9:2] + layer.bias.detach()[:, None, None]
    torch.testing.assert_close(layer(x), wanted, atol=1e-6, rtol=1e-6)  # the matrices are float32's


def test_without_a_cut_it_is_an_ordinary_convolution() -> None:
    layer, plain = BandLimited2d((2, 3, 4, 2), 12, 0.0), nn.Conv2d(2, 3, 4, 2)
    plain.load_state_dict({"weight": layer.made(), "bias": layer.bias})
    x = torch.randn(5, 2, 12, 12)
    torch.testing.assert_close(layer(x), plain(x))


def test_only_kept_coefficients_are_stored() -> None:
    basis = cosines(8, 6)
    torch.testing.assert_close(basis.T @ basis, torch.eye(6, dtype=torch.float64))
    layer = BandLimited2d((4, 16, 8, 4), 84, 0.5)
    assert {name: tuple(part.shape) for name, part in layer.state_dict().items()} == {
        "weight": (16, 4, 6, 6), "bias": (16,)
    }  # fmt: skip
    whole = AtariCNN(NETS["mnih2013"], 6)
    small = AtariCNN(dataclasses.replace(NETS["mnih2013"], band_limit=(0.5, 0.5)), 6)
    assert count_parameters(whole) - count_parameters(small) == 16 * 4 * (64 - 36) + 32 * 16 * (16 - 9)


@pytest.mark.parametrize("coloured", [False, True])
def test_noise_has_its_covariance(coloured: bool) -> None:
    noise, v = Noise((4,), coloured, at_play=True), torch.tensor([1.0, -2.0, 0.5, 3.0])
    noise.begin_with(v)
    spread = v.std(unbiased=False)
    if coloured:
        with torch.no_grad():
            noise.diagonal.copy_(torch.tensor([0.1, -0.2, 0.3, 0.4]))
            noise.factor.normal_(0, 0.3)
        wanted = torch.diag(spread * noise.diagonal.abs()) + noise.factor @ noise.factor.T
    else:
        wanted = torch.eye(4) * (0.25 * spread) ** 2
    with seeded(0), torch.no_grad():
        drawn = torch.stack([noise(v) - v for _ in range(20_000)])
    torch.testing.assert_close(drawn.mean(0), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), wanted.detach(), atol=0.03, rtol=0.05)


def test_noise_on_an_output_differs_from_state_to_state() -> None:
    layer, x = NoisyLinear((3, 4), False, True, at_play=True), torch.ones(2, 3)
    with seeded(0):
        first, second = layer(x)
    assert not torch.equal(first, second)
    image = NoisyConv2d((1, 2, 3, 1), 4, False, True, at_play=False)
    assert image.noise.factor.shape == (2, 4, 4, RANK)
    assert image(torch.ones(2, 1, 6, 6)).shape == (2, 2, 4, 4)
    plain = image.eval()(torch.ones(1, 1, 6, 6))
    assert torch.equal(plain, image(torch.ones(1, 1, 6, 6))), "in eval mode there is none, unless at play"


@pytest.mark.parametrize("name", OPTIONS)
def test_the_engine_steps_as_autograd_does(make_batch: MakeBatch, name: str) -> None:
    net, (x, logits, targets) = make(**OPTIONS[name]), make_batch()
    engine = make_engine(net, torch.float64)
    assert isinstance(engine, Engine)
    objective = Objective(scale=2.5)
    with seeded(3):
        want = sobolev_loss(net, x, logits, targets, 0.7, objective)
    want.total.backward()  # type: ignore[no-untyped-call]
    slopes = {name: part.grad for name, part in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    with seeded(3):
        got = engine.step(x, logits, targets, 0.7, objective)
    torch.testing.assert_close(got.total, want.total.detach())
    for part, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, slopes[part], msg=part)
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0, part


@pytest.mark.parametrize(("at_play", "same"), [(True, False), (False, True)])
def test_passes_of_a_frozen_engine_draw_at_play_only(at_play: bool, same: bool) -> None:
    net = make(noise="white", noise_at_play=at_play).eval()
    assert draws_at_play(net) == at_play
    engine, x = Engine(net.path(), torch.float64, frozen=True), torch.rand(2, 4, 84, 84, dtype=torch.float64)
    assert torch.equal(engine.forward(x).logits, engine.forward(x).logits) == same
    with seeded(0):
        first = engine.forward(x).logits
    with seeded(0):
        assert torch.equal(engine.forward(x).logits, first)


def test_noise_that_is_off_learns_nothing(make_batch: MakeBatch) -> None:
    net, (x, logits, _) = make(noise="white", noise_at_play=False).eval(), make_batch()
    Engine(net.path(), torch.float64).step(x, logits, None, 0.0, Objective())
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == name.endswith("alpha"), name


def test_a_cuda_graph_of_noise_is_refused() -> None:
    net = make(noise="white")
    with pytest.raises(UserError, match="cannot record noise, which is drawn anew"):
        make_step(net, make_engine(net), cuda_graph=True)


@pytest.mark.parametrize("options", [{}, *OPTIONS.values(), {"noise": "white", "noise_on": "activations"}])
def test_a_spec_with_options_survives_json(options: dict[str, Any]) -> None:
    spec = dataclasses.replace(SMALL, **options)
    told = json.loads(json.dumps(spec.to_dict()))
    assert NetSpec.from_dict(told) == spec
    assert told.keys() - {"convs", "hidden", "activation", "extra_activation"} == options.keys()


@pytest.mark.parametrize(("options", "message"), [
    ({"noise": "colored"}, r"noise of a network must be one of \(None, 'white', 'coloured'\), got 'colored'"),
    ({"noise": "white", "noise_on": "weight"}, "noise_on of a network must be one of .*, got 'weight'"),
    ({"band_limit": (0.5,)}, r"from 0 to below 1 for each of 2 convolutions; got \(0.5,\)"),
    ({"band_limit": (0.5, 0.5, 0.5)}, "for each of 2 convolutions"),
    ({"band_limit": (0.5, 1.0)}, "from 0 to below 1"),
    ({"band_limit": (0.5, 0.0), "noise": "white", "noise_on": "activations"}, "put it on weights"),
])  # fmt: skip
def test_layers_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


def test_coloured_noise_begins_as_large_as_white_noise() -> None:
    """On weights of their own spread; outputs, which nobody has seen yet, count as having one of 1."""
    on_weights, on_outputs = (make(noise="coloured", noise_on=where) for where in ("weights", "activations"))
    first, other = on_weights.features[0], on_outputs.features[0]
    torch.testing.assert_close(
        first.noise.diagonal.sqrt() * first.weight.std().sqrt(),  # type: ignore[union-attr]
        (0.25 * first.weight.std()).expand(first.weight.shape),  # type: ignore[union-attr,operator,arg-type]
    )
    assert (other.noise.diagonal == 0.25**2).all()  # type: ignore[union-attr]
