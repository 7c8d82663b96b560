"""Where every gradient comes from: the whole network's own autograd is what the parts are held against."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.api import Engine, Objective, Targets
from studies.synthetic.data import Data, Images
from studies.synthetic.training import (
    METHODS,
    WIDTH,
    GradientRegressor,
    LossPredictor,
    Recipe,
    backward,
    make_module,
    network,
    train,
)

SHAPE = (1, 8, 8)


def images(count: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    return Images(torch.rand(count, *SHAPE, generator=generator), torch.randint(10, (count,), generator=generator))


def recipe(method: str) -> Recipe:
    return Recipe(method, 3e-3, 3e-3, 1.0)


@pytest.fixture
def parts() -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    return network(SHAPE)


@pytest.fixture
def truth(parts: tuple[nn.Sequential, nn.Sequential]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(h, y, losses, dL/dh) of 16 images."""
    batch = images(16, 1)
    h = parts[0](batch.x).detach().requires_grad_()
    losses = F.cross_entropy(parts[1](h), batch.y, reduction="none")
    return h.detach(), batch.y, losses.detach(), torch.autograd.grad(losses.sum(), h)[0]


def gradients(*nets: nn.Module) -> list[Tensor]:
    return [parameter.grad for net in nets for parameter in net.parameters() if parameter.grad is not None]


def test_backprop_in_two_parts_is_backprop(parts: tuple[nn.Sequential, nn.Sequential]) -> None:
    whole = copy.deepcopy(nn.Sequential(*parts[0], *parts[1]))
    batch = images(16, 1)
    loss = F.cross_entropy(whole(batch.x), batch.y)
    loss.backward()  # type: ignore[no-untyped-call]
    found = backward(*parts, "backprop", None, batch.x, batch.y)
    assert found.tolist() == pytest.approx([float(loss.detach()), 1.0])
    torch.testing.assert_close(gradients(*parts), gradients(whole))


@pytest.mark.parametrize("method", ["dni", "critic", "vfbn", "sobolev"])
def test_the_lower_part_gets_the_guess_and_the_upper_one_the_truth(
    parts: tuple[nn.Sequential, nn.Sequential], truth: tuple[Tensor, Tensor, Tensor, Tensor], method: str
) -> None:
    h, y, _, _ = truth
    batch = images(16, 1)
    module = make_module(recipe(method))
    assert module is not None
    assert not module.guess(h, y).any()  # says nothing before it has learned anything
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    lower, upper = copy.deepcopy(parts)
    guess = module.guess(h, y)
    expected = torch.autograd.grad((lower(batch.x) * guess).sum() / 16, list(lower.parameters()))
    F.cross_entropy(upper(h), y).backward()  # type: ignore[no-untyped-call]
    backward(*parts, method, module, batch.x, y)
    torch.testing.assert_close(gradients(parts[0]), list(expected))
    torch.testing.assert_close(gradients(parts[1]), gradients(upper))
    assert all(float(g.abs().sum()) > 0 for g in gradients(module))


def test_a_loss_predictor_that_is_the_upper_part_guesses_the_truth(
    parts: tuple[nn.Sequential, nn.Sequential], truth: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    h, y, losses, true = truth
    module = LossPredictor(value=True, weight=1)
    module.net = parts[1]
    torch.testing.assert_close(module.guess(h, y), true)
    assert float(module.loss(h, y, losses, true).detach()) < 1e-9


@pytest.mark.parametrize(
    ("module", "uses_value", "uses_gradient"),
    [
        (LossPredictor(value=True, weight=0), True, False),
        (LossPredictor(value=False, weight=1), False, True),
        (LossPredictor(value=True, weight=1), True, True),
        (GradientRegressor(), False, True),
    ],
    ids=["critic", "vfbn", "sobolev", "dni"],
)
def test_a_module_learns_from_what_it_should(
    truth: tuple[Tensor, Tensor, Tensor, Tensor], module: LossPredictor, uses_value: bool, uses_gradient: bool
) -> None:
    h, y, losses, true = truth
    loss = module.loss(h, y, losses, true)
    assert bool(module.loss(h, y, losses + 1, true) != loss) == uses_value
    assert bool(module.loss(h, y, losses, true + 1) != loss) == uses_gradient


def test_the_gradient_term_is_a_projection_of_log_probabilities(
    truth: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """dm/dh = J^T v of log p for v = -onehot(y), so the fast engine computes the same term without double backward."""
    h, y, losses, true = truth
    module = LossPredictor(value=False, weight=1)
    nn.init.normal_(module.net[2].weight, std=0.3)
    expected = module.loss(h, y, losses, true)
    expected.backward()  # type: ignore[no-untyped-call]
    net = copy.deepcopy(module.net)
    net.zero_grad()
    own = net(h).detach()
    targets = Targets(-F.one_hot(y, 10).float().unsqueeze(1), true.unsqueeze(1))
    found = Engine(net).step(h, own, targets, 1.0, Objective(space="log_probs"))
    torch.testing.assert_close(found.total, expected.detach())
    torch.testing.assert_close(gradients(net), gradients(module), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_training_is_repeatable_and_noprop_keeps_the_lower_part(method: str) -> None:
    data = Data("noise", images(64, 0), images(32, 1), images(32, 2))
    first, curves = train(data, recipe(method), seed=3, steps=20)
    again, same = train(data, recipe(method), seed=3, steps=20)
    assert curves == same
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert [name for name in curves if name.startswith("validation@")] == [
        f"validation@{step}" for step in range(1, 21)
    ]
    assert any(name.startswith("cosine@") for name in curves) == (method not in ("backprop", "noprop"))
    torch.manual_seed(3)
    lower, upper = network(SHAPE)
    drawn = nn.Sequential(*lower, *upper)
    moved = [not torch.equal(a, b) for a, b in zip(drawn.parameters(), first.parameters(), strict=True)]
    assert moved[-4:] == [True] * 4
    assert any(moved[:-4]) == (method != "noprop")
    assert drawn[-3].in_features == WIDTH


@pytest.mark.parametrize("steps", [3, 45])
def test_the_curves_end_where_training_ends(steps: int) -> None:
    data = Data("noise", images(64, 0), images(32, 1), images(32, 2))
    _, curves = train(data, recipe("backprop"), seed=0, steps=steps)
    taken = [int(name.partition("@")[2]) for name in curves if name.startswith("loss@")]
    assert taken[-1] == steps
    assert len(taken) == min(steps, 20)


def test_the_parts_fit_colour_images() -> None:
    lower, upper = network((3, 32, 32))
    assert upper(lower(torch.zeros(2, 3, 32, 32))).shape == (2, 10)
