"""TensorBoard: one meaning per tag (docs/metrics.md)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from distill.batches.loader import Loader
from distill.batches.source import Index
from distill.engine.engine import Engine
from distill.figures.fidelity import Fidelity, input_gradient
from distill.losses.projection import cotangent
from distill.losses.sobolev import Losses
from distill.networks.nets import evaluating, to_unit
from distill.train.hparams import write_figures, write_hparams


class TrainLog:
    """Writes a run's events; points after ``step`` of an earlier, killed process are dropped.

    Args:
        folder: the run, or None to write nothing: another process does.
        step: the last one that counts.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._writer = None if folder is None else SummaryWriter(str(folder), purge_step=step + 1)
        self._last = (time.perf_counter(), step)

    def train(self, step: int, losses: Losses, norm: Tensor, lr: float, weight: float | None, states: int) -> None:
        """Training losses of one batch, and speed since the last call, in batches of so many states.

        What was not computed is not logged: the derivatives' part at lambda 0, and lambda (None) without that part.
        """
        now, (then, before) = time.perf_counter(), self._last
        self._last = (now, step)
        values = {
            "train/loss": float(losses.total),
            "train/kl_loss": float(losses.divergence),
            "train/jacobian_loss": None if losses.jacobian is None else float(losses.jacobian),
            "train/jacobian_weight": weight,
            "train/grad_norm": float(norm),
            "train/learning_rate": lr,
            "train/fps": (step - before) * states / (now - then),
        }
        self._scalars(step, {tag: value for tag, value in values.items() if value is not None})

    def validation(self, step: int, scores: Fidelity) -> None:
        """Fidelity on held-out games."""
        values = {f"val/{name}": value for name, value in vars(scores).items() if value is not None}
        self._scalars(step, values)
        if self._writer is not None:
            self._writer.flush()

    def saliency(self, step: int, net: nn.Module, engine: Engine | None, loader: Loader, index: Index) -> None:
        """Newest frame, teacher's and student's |J^T v| side by side, for four held-out states."""
        if not loader.dataset.has_jacobian or self._writer is None:
            return
        chosen = index[np.linspace(0, len(index) - 1, 4).astype(int)]
        batch = loader.load(chosen, 0)
        assert batch.targets is not None
        with evaluating(net):
            with torch.no_grad():
                x = to_unit(batch.obs)
                logits = net(x)
            seed = cotangent(loader.dataset.identity.space, logits, batch.targets.v[:, 0])
            student = input_gradient(net, engine, x, seed)
        tiles = [x[:, -1], _shown(batch.targets.row(0)), _shown(student)]
        image = torch.cat([torch.cat(list(tile), 0) for tile in tiles], 1).cpu()
        self._writer.add_image("val/saliency", image, step, dataformats="HW")

    def end(self, run: Path, settings: dict[str, Any], best_step: int, scores: Fidelity) -> None:
        """The run's row in TensorBoard's HPARAMS tab: settings, and the figures of the checkpoint that was kept."""
        if self._writer is None:
            return
        write_figures(run, best_step, {f"val/{name}": value for name, value in vars(scores).items()})
        write_hparams(self._writer, settings)

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        if self._writer is None:
            return
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)


def _shown(vjp: Tensor) -> Tensor:
    """|J^T v| over the newest frame, each state scaled to its own 99.5th percentile."""
    magnitude = vjp[:, -1].abs()
    peak = magnitude.flatten(1).quantile(0.995, dim=1).clamp_min(1e-12)
    return (magnitude / peak[:, None, None]).clamp_max(1)
