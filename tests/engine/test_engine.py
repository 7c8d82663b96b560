"""The fast engine against autograd, finite differences and ``torch.func``.

Mostly in float64: in float32 a ReLU's pre-activation within rounding of zero may fall on the other side
of it in the engine's folded layout than in PyTorch's, and then both gradients are right (seen once: 9e-4).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.engine import pixels
from distill.engine.engine import Engine
from distill.engine.folding import fold_pixels
from distill.losses.matching import MATCHES
from distill.losses.projection import SPACES
from distill.losses.sobolev import Losses, Objective, sobolev_loss
from distill.losses.targets import Targets
from distill.networks.layers.layer import activations
from distill.networks.layers.recu import ReCU
from distill.networks.nets import NETS, AtariCNN, NetSpec

MakeNet = Callable[..., AtariCNN]
MakeBatch = Callable[..., tuple[Tensor, Tensor, Targets]]
Setting = dict[str, Any]
WEIGHT, SCALE = 0.3, 2.5

EVERY_STUDENT: list[tuple[str, str, str, str, Setting]] = [
    ("mnih2013", "relu", "logits", "l2", {"k": 2}),
    ("mnih2013", "tanh", "log_probs", "cosine", {"blur": 1.5}),
    ("mnih2013", "softplus", "probs", "l2", {"temperature": 0.5, "law": "fisher"}),
    ("nature", "relu", "log_probs", "l2", {"blur": 0.8, "temperature": 2.0}),
    ("nature", "tanh", "probs", "cosine", {"divergence": "reverse_kl"}),
    ("nature", "softplus", "logits", "cosine", {"k": 2, "law": "fisher"}),
    ("nature-half", "relu", "probs", "cosine", {"k": 2, "blur": 1.0}),
    ("nature-half", "tanh", "logits", "l2", {"divergence": "mse", "temperature": 0.5}),
    ("nature-half", "softplus", "log_probs", "l2", {"k": 3}),
    ("rusu-7", "relu", "logits", "l2", {}),
    ("rusu-1", "relu", "log_probs", "l2", {"k": 2}),
]
SETTINGS: list[Setting] = [
    {},
    {"k": 3, "blur": 1.5},
    {"k": 2, "temperature": 0.5, "law": "fisher"},
    {"k": 2, "blur": 0.8, "temperature": 2.0},
    {"divergence": "reverse_kl"},
    {"divergence": "mse", "law": "fisher"},
    {"k": 2, "divergence": "ce", "blur": 3.0},
    {"divergence": "squared", "temperature": 0.5},
]
EVERY_OBJECTIVE = [
    (activation, space, match, SETTINGS[(number + number // len(SETTINGS)) % len(SETTINGS)])
    for number, (activation, space, match) in enumerate(itertools.product(activations(), SPACES, MATCHES))
]


def gradients(net: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad(set_to_none=True)
    return found


def by_autograd(
    net: nn.Module, x: Tensor, logits: Tensor, targets: Targets | None, weight: float, objective: Objective
) -> tuple[Losses, dict[str, Tensor]]:
    losses = sobolev_loss(net, x, logits, targets, weight, objective)
    losses.total.backward()  # type: ignore[no-untyped-call]
    return losses, gradients(net)


def by_engine(
    net: nn.Module, path: nn.Sequential, x: Tensor, logits: Tensor, targets: Targets | None, weight: float, o: Objective
) -> tuple[Losses, dict[str, Tensor]]:
    losses = Engine(path, x.dtype).step(x, logits, targets, weight, o)
    return losses, gradients(net)


def assert_same(
    got: tuple[Losses, dict[str, Tensor]], want: tuple[Losses, dict[str, Tensor]], tolerance: float
) -> None:
    """The whole gradient, every parameter's, and all that a step reports."""
    assert got[1].keys() == want[1].keys()
    assert len(want[1]) > 0
    for name, gradient in want[1].items():
        assert got[1][name].dtype == gradient.dtype
        assert (got[1][name] - gradient).norm() <= tolerance * gradient.norm(), name
        assert gradient.norm() > 0, f"{name} has no gradient: nothing was compared"
    whole_got, whole = (torch.cat([g.flatten() for g in part.values()]) for part in (got[1], want[1]))
    assert (whole_got - whole).norm() <= tolerance * whole.norm()
    for field in ("total", "divergence", "jacobian", "logits"):
        torch.testing.assert_close(
            getattr(got[0], field), getattr(want[0], field).detach(), rtol=tolerance, atol=tolerance
        )


def compare(
    net: AtariCNN, make_batch: MakeBatch, space: str, match: str, setting: Setting, actions: int, batch: int
) -> None:
    choices = dict(setting)
    k, law = choices.pop("k", 1), choices.pop("law", "sphere")
    # The paper's form has v on the whole sphere where the softmax is part of the function.
    x, logits, targets = make_batch(batch=batch, actions=actions, k=k, law=law, zero_sum=space == "logits")
    objective = Objective(space=space, match=match, scale=SCALE, **choices)
    want = by_autograd(net, x, logits, targets, WEIGHT, objective)
    assert_same(by_engine(net, net.path(), x, logits, targets, WEIGHT, objective), want, 1e-10)
    plain = by_autograd(net, x, logits, None, 0.0, objective)
    first = next(iter(plain[1]))
    # Far above the tolerance: the Sobolev term is really in what was compared.
    assert (plain[1][first] - want[1][first]).norm() > 1e-5 * want[1][first].norm()


@pytest.mark.parametrize(("name", "activation", "space", "match", "setting"), EVERY_STUDENT)
def test_gradient_of_every_student(
    make_net: MakeNet, make_batch: MakeBatch, name: str, activation: str, space: str, match: str, setting: Setting
) -> None:
    compare(make_net(NETS[name], activation, actions=6), make_batch, space, match, setting, actions=6, batch=2)


@pytest.mark.parametrize(("activation", "space", "match", "setting"), EVERY_OBJECTIVE)
def test_gradient_of_every_objective(
    make_net: MakeNet, make_batch: MakeBatch, activation: str, space: str, match: str, setting: Setting
) -> None:
    compare(make_net(activation=activation), make_batch, space, match, setting, actions=5, batch=3)


@pytest.mark.parametrize("name", NETS)
def test_gradient_in_float32(make_net: MakeNet, make_batch: MakeBatch, name: str) -> None:
    net = make_net(NETS[name], "tanh", dtype=torch.float32)
    x, logits, targets = make_batch(batch=2, dtype=torch.float32)
    objective = Objective(scale=SCALE)
    want = by_autograd(net, x, logits, targets, WEIGHT, objective)
    assert_same(by_engine(net, net.path(), x, logits, targets, WEIGHT, objective), want, 1e-5)


def first(targets: Targets, count: int) -> Targets:
    return Targets(targets.v[:count], targets.vjp[:count], None if targets.scale is None else targets.scale[:count])


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize(("activation", "space", "match", "setting"), EVERY_OBJECTIVE[::2])
def test_derivatives_of_the_first_states_only(
    make_net: MakeNet, make_batch: MakeBatch, activation: str, space: str, match: str, setting: Setting, count: int
) -> None:
    choices = dict(setting)
    k, law = choices.pop("k", 1), choices.pop("law", "sphere")
    net = make_net(activation=activation)
    x, logits, targets = make_batch(batch=5, k=k, law=law, zero_sum=space == "logits")
    targets, objective = first(targets, count), Objective(space=space, match=match, scale=SCALE, **choices)
    want = by_autograd(net, x, logits, targets, WEIGHT, objective)
    assert_same(by_engine(net, net.path(), x, logits, targets, WEIGHT, objective), want, 1e-10)
    # By hand: the divergence of all states, and the derivatives' term of a batch of these alone.
    plain, part = (
        by_autograd(net, x, logits, None, 0.0, objective),
        by_autograd(net, x[:count], logits[:count], targets, WEIGHT, objective),
    )
    alone = by_autograd(net, x[:count], logits[:count], None, 0.0, objective)
    for name in want[1]:
        by_hand = plain[1][name] + part[1][name] - alone[1][name]
        torch.testing.assert_close(want[1][name], by_hand, rtol=1e-9, atol=1e-12)
    assert want[0].jacobian is not None
    assert part[0].jacobian is not None
    torch.testing.assert_close(want[0].jacobian, part[0].jacobian)


def test_a_share_in_pieces(make_net: MakeNet, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of the first layer are of other sizes for the part than for the whole batch."""
    monkeypatch.setattr(pixels, "PIECE_BYTES", 3 * 4 * 84 * 84 * 8)
    net = make_net(activation="softplus")
    x, logits, targets = make_batch(batch=8)
    want = by_autograd(net, x, logits, first(targets, 5), WEIGHT, Objective(scale=SCALE))
    got = by_engine(net, net.path(), x, logits, first(targets, 5), WEIGHT, Objective(scale=SCALE))
    assert_same(got, want, 1e-10)


def test_bfloat16_passes_give_float32_gradients(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net = make_net(activation="tanh", dtype=torch.float32)
    x, logits, targets = make_batch(dtype=torch.float32)
    _, want = by_autograd(net, x, logits, targets, WEIGHT, Objective(scale=SCALE))
    losses = Engine(net.path(), torch.bfloat16).step(x, logits, targets, WEIGHT, Objective(scale=SCALE))
    got = gradients(net)
    assert losses.total.dtype == losses.logits.dtype == torch.float32
    for name, gradient in want.items():
        assert got[name].dtype == torch.float32
        assert (got[name] - gradient).norm() < 0.05 * gradient.norm(), name


@pytest.mark.parametrize(
    ("activation", "objective"),
    [
        ("tanh", Objective(scale=SCALE)),
        ("softplus", Objective(space="probs", temperature=0.5, scale=SCALE)),
        ("tanh", Objective(space="log_probs", match="cosine", blur=1.0)),
        ("softplus", Objective(divergence="reverse_kl", match="cosine", temperature=2.0)),
    ],
)
def test_gradient_is_the_slope_of_the_objective(
    make_net: MakeNet, make_batch: MakeBatch, activation: str, objective: Objective
) -> None:
    net = make_net(activation=activation)
    x, logits, targets = make_batch()
    engine = Engine(net.path(), torch.float64)

    def value() -> float:
        return float(engine.step(x, logits, targets, WEIGHT, objective).total)

    value()
    found = gradients(net)
    rng = torch.Generator().manual_seed(2)
    for name, parameter in net.named_parameters():
        flat, slope = parameter.detach().view(-1), found[name].flatten()
        chosen = [*slope.abs().topk(2).indices.tolist(), int(torch.randint(len(flat), (1,), generator=rng))]
        for index in chosen:
            kept, h = float(flat[index]), 1e-5
            flat[index] = kept + h
            above = value()
            flat[index] = kept - h
            below = value()
            flat[index] = kept
            assert (above - below) / (2 * h) == pytest.approx(
                float(slope[index]), rel=1e-6, abs=1e-6 * float(slope.abs().max())
            ), name


def test_gradients_add_up(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net, objective = make_net(), Objective(scale=SCALE)
    x, logits, targets = make_batch()
    engine = Engine(net.path(), torch.float64)
    engine.step(x, logits, targets, WEIGHT, objective)
    once = gradients(net)
    engine.step(0.5 * x, logits, targets, WEIGHT, objective)
    other = gradients(net)
    engine.step(x, logits, targets, WEIGHT, objective)
    engine.step(0.5 * x, logits, targets, WEIGHT, objective)
    for name, both in gradients(net).items():
        torch.testing.assert_close(both, once[name] + other[name])
        assert (once[name] - other[name]).norm() > 1e-3 * once[name].norm()


@pytest.mark.parametrize("given", [True, False])
def test_weight_zero_is_plain_distillation(make_net: MakeNet, make_batch: MakeBatch, given: bool) -> None:
    net, objective = make_net(), Objective(scale=SCALE)
    x, logits, targets = make_batch()
    want = F.kl_div(net(x).log_softmax(-1), logits.log_softmax(-1), reduction="batchmean", log_target=True)
    want.backward()  # type: ignore[no-untyped-call]
    slope = gradients(net)
    losses = Engine(net.path(), torch.float64).step(
        x, logits, targets if given else None, 0.0 if given else 1.0, objective
    )
    assert float(losses.total) == float(losses.divergence) == pytest.approx(want.item())
    assert losses.jacobian is None
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, slope[name])


@pytest.mark.parametrize("codes", [torch.int8, torch.float16])
@pytest.mark.parametrize(
    ("stride", "objective"),
    [
        (4, Objective(scale=SCALE)),
        (4, Objective(temperature=0.5, match="cosine")),
        (4, Objective(blur=1.0, temperature=0.5, scale=SCALE)),
        (2, Objective(temperature=2.0, scale=SCALE)),
        (3, Objective(temperature=0.5, scale=SCALE)),
    ],
)
def test_stored_codes_are_what_they_stand_for(
    make_net: MakeNet, make_batch: MakeBatch, codes: torch.dtype, stride: int, objective: Objective
) -> None:
    net = make_net(NetSpec(((4, 8, stride), (6, 4, 3)), (12,)))
    x, logits, targets = make_batch(batch=2)
    stored = (targets.vjp / targets.vjp.abs().max() * 127).round().to(codes)
    scale = torch.rand(stored.shape[:-1], generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 1000
    floats = Targets(targets.v, stored.to(torch.float64) * scale.unsqueeze(-1))
    want = by_autograd(net, x, logits, floats, WEIGHT, objective)
    for_codes = Targets(targets.v, stored, scale)
    assert_same(by_engine(net, net.path(), x, logits, for_codes, WEIGHT, objective), want, 1e-10)
    assert_same(by_autograd(net, x, logits, for_codes, WEIGHT, objective), want, 1e-10)


def test_uint8_pixels_are_divided_by_255(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net = make_net()
    _, logits, targets = make_batch()
    obs = torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    want = by_autograd(net, obs.double() / 255, logits, targets, WEIGHT, Objective(scale=SCALE))
    losses = Engine(net.path(), torch.float64).step(obs, logits, targets, WEIGHT, Objective(scale=SCALE))
    assert_same((losses, gradients(net)), want, 1e-10)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("fold", [2, 3, 4, 7])
def test_folding_is_pixel_unshuffle(dtype: torch.dtype, fold: int) -> None:
    x = (100 * torch.rand(2, 3, 4, 84, 84, generator=torch.Generator().manual_seed(0))).to(dtype)
    for part in (x[0], x[:, 1], x[1].contiguous(memory_format=torch.channels_last), x[1].transpose(2, 3)):
        folded = fold_pixels(part, fold)
        assert torch.equal(folded, F.pixel_unshuffle(part.float(), fold).to(dtype))
        assert folded.is_contiguous(memory_format=torch.channels_last)


def test_frozen_layers_stay_frozen(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net = make_net()
    net.features[0].requires_grad_(False)
    x, logits, targets = make_batch()
    want = by_autograd(net, x, logits, targets, WEIGHT, Objective(scale=SCALE))
    assert "features.0.weight" not in want[1]
    assert_same(by_engine(net, net.path(), x, logits, targets, WEIGHT, Objective(scale=SCALE)), want, 1e-10)


@pytest.mark.parametrize(
    "convs",
    [
        ((4, 7, 3), (6, 4, 2)),  # kernel no multiple of the stride
        ((4, 10, 5), (6, 4, 2)),  # image no multiple of the stride
        ((4, 8, 1), (6, 6, 6)),  # stride 1
    ],
)
@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_first_layer_that_cannot_be_folded(
    make_net: MakeNet, make_batch: MakeBatch, convs: tuple[tuple[int, int, int], ...], blur: float
) -> None:
    net = make_net(NetSpec(convs, (12,)), "softplus")
    x, logits, targets = make_batch(batch=2)
    objective = Objective(blur=blur, scale=SCALE)
    want = by_autograd(net, x, logits, targets, WEIGHT, objective)
    assert_same(by_engine(net, net.path(), x, logits, targets, WEIGHT, objective), want, 1e-10)
    _, rows = Engine(net.path(), torch.float64).vjp(x, targets.v)
    torch.testing.assert_close(rows, autograd_vjp(net, x, targets.v))


def test_one_engine_takes_images_that_fold_and_others(make_batch: MakeBatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 4, 4, 2), nn.Tanh(), nn.Conv2d(4, 2, 41, 41), nn.Flatten(), nn.Linear(2, 5)
    ).double()
    engine = Engine(net, torch.float64)
    for size in (84, 85, 84):
        x, _, targets = make_batch(shape=(4, size, size))
        torch.testing.assert_close(engine.vjp(x, targets.v)[1], autograd_vjp(net, x, targets.v))


@pytest.mark.parametrize("match", MATCHES)
def test_vectors(make_batch: MakeBatch, match: str) -> None:
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 8, bias=False), nn.ReLU(), nn.Linear(8, 5)).double()
    x, logits, targets = make_batch(shape=(7,))
    objective = Objective(match=match, space="log_probs")
    want = by_autograd(mlp, x, logits, targets, WEIGHT, objective)
    assert_same(by_engine(mlp, mlp, x, logits, targets, WEIGHT, objective), want, 1e-10)
    logits_now, rows = Engine(mlp, torch.float64).vjp(x, targets.v)
    torch.testing.assert_close(rows, autograd_vjp(mlp, x, targets.v))
    torch.testing.assert_close(logits_now, mlp(x).detach())


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Softplus, ReCU])
def test_regression_of_one_number(make_batch: MakeBatch, activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    mlp = nn.Sequential(
        nn.Linear(2, 9), activation(), nn.Linear(9, 8, bias=False), activation(), nn.Linear(8, 1)
    ).double()
    x, _, stored = make_batch(batch=7, k=1, shape=(2,))
    y, slope = torch.linspace(-1, 2, 7).double(), 100 * stored.vjp[:, 0]
    objective = Objective("squared", scale=SCALE)
    targets = Targets(torch.ones(7, 1, 1).double(), slope.unsqueeze(1))
    step = by_engine(mlp, mlp, x, y.unsqueeze(1), targets, WEIGHT, objective)
    assert_same(step, by_autograd(mlp, x, y.unsqueeze(1), targets, WEIGHT, objective), 1e-10)
    gradient = torch.func.vmap(torch.func.grad(lambda one: mlp(one).squeeze()))(x)
    want = (mlp(x)[:, 0] - y).square().mean() + WEIGHT / SCALE * (gradient - slope).square().sum(1).mean()
    torch.testing.assert_close(step[0].total, want.detach())


def autograd_vjp(net: nn.Module, x: Tensor, v: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    logits = net(x)
    rows = [torch.autograd.grad((logits * v[:, k]).sum(), x, retain_graph=True)[0] for k in range(v.shape[1])]
    return torch.stack(rows, 1)


@pytest.mark.parametrize("activation", activations())
@pytest.mark.parametrize("name", NETS)
def test_vjp_is_autograds(make_net: MakeNet, make_batch: MakeBatch, name: str, activation: str) -> None:
    net = make_net(NETS[name], activation)
    x, _, targets = make_batch(batch=2, k=3)
    logits, rows = Engine(net.path(), torch.float64).vjp(x, targets.v)
    assert rows.shape == (2, 3, 4, 84, 84)
    torch.testing.assert_close(logits, net(x).detach())
    torch.testing.assert_close(rows, autograd_vjp(net, x, targets.v))


@pytest.mark.parametrize("activation", activations())
def test_vjp_of_unit_vectors_is_the_jacobian(make_net: MakeNet, make_batch: MakeBatch, activation: str) -> None:
    net = make_net(activation=activation)
    x, _, _ = make_batch()
    want = torch.func.vmap(torch.func.jacrev(lambda one: net(one.unsqueeze(0)).squeeze(0)))(x)
    _, rows = Engine(net.path(), torch.float64).vjp(x, torch.eye(5, dtype=torch.float64).expand(3, -1, -1))
    torch.testing.assert_close(rows, want)


def test_vjp_in_float32_is_float32(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net = make_net(activation="tanh", dtype=torch.float32)
    x, _, targets = make_batch(dtype=torch.float32)
    logits, rows = Engine(net.path()).vjp(x, targets.v)
    assert logits.dtype == rows.dtype == torch.float32
    torch.testing.assert_close(rows, autograd_vjp(net, x, targets.v))


def test_the_loss_does_not_grow_with_the_batch(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net, objective = make_net(), Objective(scale=SCALE)
    x, logits, targets = make_batch()
    engine = Engine(net.path(), torch.float64)
    once = engine.step(x, logits, targets, WEIGHT, objective)
    slope = gradients(net)
    doubled = Targets(targets.v.repeat(2, 1, 1), targets.vjp.repeat(2, 1, 1, 1, 1))
    twice = engine.step(x.repeat(2, 1, 1, 1), logits.repeat(2, 1), doubled, WEIGHT, objective)
    for field in ("total", "divergence", "jacobian"):
        torch.testing.assert_close(getattr(once, field), getattr(twice, field))
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, slope[name])


def test_more_projections_are_averaged(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net, objective = make_net(), Objective(scale=SCALE)
    x, logits, targets = make_batch(k=2)
    engine = Engine(net.path(), torch.float64)
    singles = [
        engine.step(x, logits, Targets(targets.v[:, k : k + 1], targets.vjp[:, k : k + 1]), WEIGHT, objective)
        for k in range(2)
    ]
    both = engine.step(x, logits, targets, WEIGHT, objective)
    torch.testing.assert_close(both.jacobian, (singles[0].jacobian + singles[1].jacobian) / 2)
    assert abs(float(singles[0].jacobian - singles[1].jacobian)) > 1e-3 * float(both.jacobian)
