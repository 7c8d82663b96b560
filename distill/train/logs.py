"""Hooks of ``distill train``: its loss, its bar, its loggers and the picture at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from distill.batches.loader import Loader
from distill.batches.source import Index
from distill.engine.engine import Engine
from distill.figures.fidelity import input_gradient
from distill.figures.influence import influence_share
from distill.losses.projection import cotangent
from distill.networks.nets import evaluating, to_unit
from distill.networks.parts import draws_from
from distill.records.loggers import Loggers, Picture
from distill.system.progress import Bar
from distill.system.streams import torch_generator
from distill.train.hooks import Hook, Status

Tell = Callable[[Status, Mapping[str, float]], None]
"""``Hooks.measured``."""


TAGS = {"total": "train/loss", "divergence": "train/kl_loss"}
"""Tags of losses that are not ``train/<name>_loss``."""


class Log(Hook):
    """Hands every figure on to the loggers.

    Args:
        loggers: get the figures.
        place: what stands on their axis, by default optimizer steps.
    """

    def __init__(self, loggers: Loggers, place: Callable[[Status], int] = lambda now: now.step) -> None:
        self._loggers, self._place = loggers, place

    def measured(self, now: Status, figures: Mapping[str, float]) -> None:
        """See ``Hook``."""
        self._loggers.scalars(self._place(now), figures)


class TrainingLoss(Hook):
    """Losses of one batch now and then, and speed since the last time.

    What was not computed is not told of: a term whose weight is 0 has no loss.

    Args:
        every: steps between two.
        tell: is told the figures.
    """

    def __init__(self, every: int, tell: Tell) -> None:
        self._every, self._tell = every, tell

    def started(self, now: Status) -> None:
        """See ``Hook``."""
        self._last = (time.perf_counter(), now.step)

    def stepped(self, now: Status) -> None:
        """See ``Hook``."""
        if now.step % self._every:
            return
        assert now.losses is not None
        assert now.grad_norm is not None
        (then, before), self._last = self._last, (time.perf_counter(), now.step)
        figures = {
            **{TAGS.get(name, f"train/{name}_loss"): float(loss) for name, loss in now.losses.items()},
            **{f"train/{name}_weight": weight for name, weight in now.weights.items()},
            "train/grad_norm": float(now.grad_norm),
            "train/learning_rate": now.learning_rate,
            "train/fps": (now.step - before) * (now.states / now.step) / (self._last[0] - then),
        }
        self._tell(now, figures)


class TrainingBar(Hook):
    """The newest loss or val/kl beside a progress bar, which is in context already."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def measured(self, now: Status, figures: Mapping[str, float]) -> None:
        """See ``Hook``."""
        for tag, note in (("train/loss", "loss"), ("val/kl", "val/kl")):
            if tag in figures:
                self._bar.update(now.step, f"{note} {figures[tag]:.4f}")

    def ended(self, now: Status) -> None:
        """See ``Hook``."""
        self._bar.stop()


class SaliencyPicture(Hook):
    """At the end, where the teacher and the student look, on four held-out states.

    Args:
        loggers: get the picture.
        net: the student.
        engine: its engine, or None to differentiate by autograd.
        loader: gives the states.
        index: held-out states.
    """

    def __init__(self, loggers: Loggers, net: nn.Module, engine: Engine | None, loader: Loader, index: Index) -> None:
        self._loggers, self._net, self._engine, self._loader, self._index = loggers, net, engine, loader, index

    def ended(self, now: Status) -> None:
        """See ``Hook``; nothing where the dataset stores no derivatives, or none of these states."""
        loader, index = self._loader, self._index
        if not loader.dataset.has_jacobian:
            return
        order, carrying = loader.carriers_first(index)
        if not carrying:
            return
        index = index[order[:carrying]]
        batch = loader.load(index[np.linspace(0, len(index) - 1, 4).astype(int)], 0)
        assert batch.targets is not None
        with evaluating(self._net), draws_from(torch_generator("noise of pictures", loader.seed)):
            with torch.no_grad():
                x = to_unit(batch.obs)
                logits = self._net(x)
            seed = cotangent(loader.dataset.identity.space, logits, batch.targets.v[:, 0])
            student = input_gradient(self._net, self._engine, x, seed)
            shares = influence_share(self._net, batch.obs).float()
        tiles = [x[:, -1], _shown(batch.targets.row(0)), _shown(student)]
        self._loggers.image(now.step, "val/saliency", _side_by_side(tiles))
        self._loggers.image(now.step, "val/influence", _side_by_side([x[:, -1], shares]))


def _side_by_side(tiles: Sequence[Tensor]) -> Picture:
    """Columns of maps, (N, 84, 84) each, as one picture."""
    return torch.cat([torch.cat(list(tile), 0) for tile in tiles], 1).cpu().numpy()


def _shown(vjp: Tensor) -> Tensor:
    """|J^T v| over the newest frame, each state scaled to its own 99.5th percentile."""
    magnitude = vjp[:, -1].abs()
    peak = magnitude.flatten(1).quantile(0.995, dim=1).clamp_min(1e-12)
    return (magnitude / peak[:, None, None]).clamp_max(1)
