"""One network cut in two, trained with the true gradient at the cut or with a guess of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.api import Objective, Targets, sobolev_loss
from studies.synthetic.data import CLASSES, Data, Images

METHODS = {
    "backprop": "true gradient (not decoupled)",
    "sobolev": "loss predictor, value + gradient (Sobolev)",
    "vfbn": "loss predictor, gradient only (VFBN)",
    "critic": "loss predictor, value only (critic)",
    "dni": "gradient regression (DNI)",
    "noprop": "lower part untrained",
}
"""Where the lower part's gradient comes from."""
WIDTH = 32
"""Units at the cut. So few that random ones are not enough: an untrained lower part must show."""
BATCH = 64
POINTS = 20
"""Times that the curves are taken at, evenly spaced, the last step among them."""

_objective = Objective(divergence="squared")


@dataclass(frozen=True)
class Recipe:
    """A method with its settings."""

    method: str
    """One of ``METHODS``."""
    lr: float
    """Adam's step, both parts of the network."""
    module_lr: float | None = None
    """Adam's step, the module that guesses."""
    weight: float | None = None
    """Lambda of the gradient, ``sobolev`` only."""


Ranked = dict[str, list[tuple[Recipe, float]]]
"""Every method's recipes with their validation accuracies, best first."""


class GradientRegressor(nn.Module):
    """Jaderberg et al. 2016, cDNI: a network from (h, label) to dL/dh, least squares."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _silent(WIDTH + CLASSES, WIDTH)

    def guess(self, h: Tensor, y: Tensor) -> Tensor:
        """dL/dh of every state, (B, WIDTH). ``h``: units at the cut, float (B, WIDTH); ``y``: classes, int64 (B,)."""
        return self._forward(h, y).detach()

    def loss(self, h: Tensor, y: Tensor, losses: Tensor, gradients: Tensor) -> Tensor:
        """Mean squared distance to the true ``gradients`` (B, WIDTH); the true ``losses`` (B,) are not used."""
        return (self._forward(h, y) - gradients).square().sum(1).mean()

    def _forward(self, h: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.net(torch.cat([h, F.one_hot(y, CLASSES).to(h.dtype)], 1))
        return out


class LossPredictor(nn.Module):
    """Czarnecki et al. 2017, section 4.3: m(h, y) = cross-entropy of a class predictor p(h); guesses dm/dh.

    Args:
        value: fit m to the true loss.
        weight: lambda; fit dm/dh to the true gradient.
    """

    def __init__(self, *, value: bool, weight: float) -> None:
        super().__init__()
        self.net = _silent(WIDTH, CLASSES)
        self.value, self.weight = value, weight

    def guess(self, h: Tensor, y: Tensor) -> Tensor:
        """dm/dh of every state, (B, WIDTH)."""
        h = h.detach().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(self.net(h), y, reduction="sum"), h)[0]

    def loss(self, h: Tensor, y: Tensor, losses: Tensor, gradients: Tensor) -> Tensor:
        """Mean squared distance to the true ``losses`` (B,), plus lambda times that to the true ``gradients``."""
        predictor = _Labelled(self.net, y)
        # Its own value is a target that asks for nothing.
        values = losses.unsqueeze(1) if self.value else predictor(h).detach()
        targets = Targets(torch.ones(len(h), 1, 1), gradients.unsqueeze(1))
        return sobolev_loss(predictor, h, values, targets, self.weight, _objective).total


class _Labelled(nn.Module):
    """The loss predictor for one batch of labels: h to m(h, y), (B, 1)."""

    def __init__(self, net: nn.Module, y: Tensor) -> None:
        super().__init__()
        self.net, self.y = net, y

    def forward(self, h: Tensor) -> Tensor:
        return F.cross_entropy(self.net(h), self.y, reduction="none").unsqueeze(1)


Module = GradientRegressor | LossPredictor


def make_module(recipe: Recipe) -> Module | None:
    """The module of a method; None where the lower part needs none."""
    match recipe.method:
        case "dni":
            return GradientRegressor()
        case "critic":
            return LossPredictor(value=True, weight=0)
        case "vfbn":
            return LossPredictor(value=False, weight=1)
        case "sobolev":
            assert recipe.weight is not None
            return LossPredictor(value=True, weight=recipe.weight)
    return None


def network(shape: tuple[int, ...]) -> tuple[nn.Sequential, nn.Sequential]:
    """The two parts: images of ``shape`` (C, H, W) to WIDTH units, and those to classes."""
    convolutions = nn.Sequential(
        nn.Conv2d(shape[0], 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten()
    )
    features = convolutions(torch.zeros(1, *shape)).shape[1]
    lower = nn.Sequential(*convolutions, nn.Linear(features, WIDTH), nn.ReLU())
    return lower, nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def accuracy(net: nn.Module, images: Images) -> float:
    """Share of images whose most likely class is right."""
    with torch.no_grad():
        parts = zip(torch.split(images.x, 1000), torch.split(images.y, 1000), strict=True)
        hits = [(net(x).argmax(1) == y).sum() for x, y in parts]
    return float(torch.stack(hits).sum()) / len(images.y)


def train(data: Data, recipe: Recipe, seed: int, steps: int) -> tuple[nn.Sequential, dict[str, float]]:
    """Train; the same seed gives every method the same network and batches.

    Returns:
        (whole network, curves by ``name@step``: ``validation`` accuracy, and since the point before the mean
        training ``loss`` in nats and the ``cosine`` of guessed and true gradients of a batch).
    """
    torch.manual_seed(seed)
    lower, upper = network(tuple(data.train.x.shape[1:]))
    net = nn.Sequential(*lower, *upper)
    batches = torch.Generator().manual_seed(seed)
    module = make_module(recipe)
    groups = [{"params": net.parameters(), "lr": recipe.lr}]
    if module is not None:
        assert recipe.module_lr is not None
        groups.append({"params": module.parameters(), "lr": recipe.module_lr})
    optimizer = torch.optim.Adam(groups)
    curves: dict[str, float] = {}
    recent: list[Tensor] = []
    for step in range(1, steps + 1):
        rows = torch.randint(len(data.train.y), (BATCH,), generator=batches)
        optimizer.zero_grad()
        recent.append(backward(lower, upper, recipe.method, module, data.train.x[rows], data.train.y[rows]))
        optimizer.step()
        if step * POINTS // steps > (step - 1) * POINTS // steps:
            loss, cosine = torch.stack(recent).mean(0).tolist()
            curves |= {f"validation@{step}": accuracy(net, data.validation), f"loss@{step}": loss}
            curves |= {} if module is None else {f"cosine@{step}": cosine}
            recent.clear()
    return net, curves


def backward(lower: nn.Module, upper: nn.Module, method: str, module: Module | None, x: Tensor, y: Tensor) -> Tensor:
    """Gradients of one batch, for every part from its own source; returns (mean loss, cosine of guess and truth)."""
    h = lower(x)
    cut = h.detach().requires_grad_()
    losses = F.cross_entropy(upper(cut), y, reduction="none")
    torch.autograd.backward(losses.mean())
    assert cut.grad is not None
    true = cut.grad * len(y)
    # A guess needs h and the label only: the lower part could have gone on before the upper one began.
    sent = module.guess(cut.detach(), y) if module is not None else true
    if method != "noprop":
        torch.autograd.backward(h, sent / len(y))
    if module is not None:
        torch.autograd.backward(module.loss(cut.detach(), y, losses.detach(), true))
    return torch.stack([losses.detach().mean(), F.cosine_similarity(sent.flatten(), true.flatten(), dim=0)])


def _silent(inputs: int, outputs: int) -> nn.Sequential:
    """Half the upper part's hidden units; starts with zeros, so that nothing is sent before anything is known."""
    last = nn.Linear(64, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), last)
