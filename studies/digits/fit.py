"""A small convolutional network on 8 x 8 digits, trained plainly or adversarially, and attacks on it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from distill.api import draws_from
from distill.networks.parts import make_convolution, make_dense
from distill.train.network import parameter_groups

SIZE, CLASSES = 8, 10
BATCH, RATE, DECAY = 64, 2e-3, 1e-2
EPS = 2 / 16
"""Of an attack: two of the sixteen gray levels of the images."""


@dataclass(frozen=True)
class Data:
    """Images in [0, 1], float (N, 1, 8, 8), and their classes, for training and testing."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


@functools.cache
def digits(seed: int) -> Data:
    """A split of all 1,797 of them, 30 % to test on."""
    images, classes = load_digits(return_X_y=True)
    parts = train_test_split(images, classes, test_size=0.3, random_state=seed, stratify=classes)
    x, test_x = (torch.tensor(part, dtype=torch.float32).view(-1, 1, SIZE, SIZE) / 16 for part in parts[:2])
    y, test_y = (torch.tensor(part) for part in parts[2:])
    return Data(x, y, test_x, test_y)


def make_net(options: dict[str, object], seed: int) -> nn.Sequential:
    """Two convolutions, a dense layer and a head; ``options`` as in ``NetSpec.to_dict()``."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        make_convolution(options, 0, (1, 16, 3, 1), 8), nn.ReLU(), make_convolution(options, 1, (16, 32, 3, 1), 6),
        nn.ReLU(), nn.Flatten(), make_dense(options, (512, 64)), nn.ReLU(), nn.Linear(64, CLASSES),
    )  # fmt: skip
    for layer in net:
        noise = getattr(layer, "noise", None)
        if noise is not None and layer.on_weights:
            noise.begin_with(layer.weight)
    return net


def fit(net: nn.Sequential, data: Data, steps: int, seed: int, *, adversarial: bool) -> None:
    """Cross entropy; adversarially, half of it of what pgd makes of the same images (He et al. 2019)."""
    adam = torch.optim.AdamW(parameter_groups(net, DECAY), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    generator = torch.Generator().manual_seed(seed)
    with draws_from(generator):
        for _ in range(steps):
            rows = torch.randint(len(data.x), (BATCH,), generator=generator)
            x, y = data.x[rows], data.y[rows]
            loss = F.cross_entropy(net(x), y)
            if adversarial:
                moved = pgd(net, x, y, steps=7, draws=1)
                loss = (loss + F.cross_entropy(net(moved), y)) / 2
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()


def slope(net: nn.Module, x: Tensor, y: Tensor, draws: int) -> Tensor:
    """Gradient of the loss by the pixels, a mean over draws of the network's noise."""
    leaf = x.detach().requires_grad_()
    total = torch.stack([F.cross_entropy(net(leaf), y, reduction="sum") for _ in range(draws)]).sum()
    return torch.autograd.grad(total, leaf)[0]


def fgsm(net: nn.Module, x: Tensor, y: Tensor, draws: int) -> Tensor:
    """One step of ``EPS``."""
    return (x + EPS * slope(net, x, y, draws).sign()).clamp(0, 1)


def pgd(net: nn.Module, x: Tensor, y: Tensor, steps: int, draws: int) -> Tensor:
    """Several steps from a random start, never further than ``EPS``."""
    moved = (x + EPS * (2 * torch.rand(x.shape) - 1)).clamp(0, 1)
    for _ in range(steps):
        moved = moved + 2.5 * EPS / steps * slope(net, moved, y, draws).sign()
        moved = torch.minimum(torch.maximum(moved, x - EPS), x + EPS).clamp(0, 1)
    return moved.detach()


def accuracies(net: nn.Sequential, data: Data, draws: int, repeats: int, seed: int) -> dict[str, float]:
    """Shares of right answers: clean, under fgsm and under pgd; means over ``repeats`` draws of the noise."""
    x, y = data.test_x, data.test_y
    torch.manual_seed(seed)
    net.eval()
    with draws_from(torch.Generator().manual_seed(seed)):
        seen = {"clean": x, "fgsm": fgsm(net, x, y, draws), "pgd": pgd(net, x, y, 20, draws)}
        with torch.no_grad():
            found = {
                name: sum(float((net(part).argmax(-1) == y).float().mean()) for _ in range(repeats)) / repeats
                for name, part in seen.items()
            }
    return found
