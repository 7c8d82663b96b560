"""How good a shuffle in windows of shards is, against a full one.

    python benchmarks/shuffle.py --out runs/bench/shuffle.json

A batch's mean of something the teacher says has a variance; batches that were drawn from few games have more of it, and
so have the means of many batches in a row. Both are compared with a full shuffle's, whose are 1, on real states of
Breakout in 32 shards. The second figure is what a window of few shards costs: its batches have the mean of its games.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

from measure import Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

import numpy as np
import numpy.typing as npt
import torch

from distill.batches.sampler import Sampler
from distill.batches.window_sampler import WindowSampler
from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.config.stages import collect
from distill.config.validate import validated
from distill.dataset.reader import Dataset
from distill.dataset.windowed import WindowedDataset

BATCH, ROW, EPOCHS = 128, 32, 8
"""States of a batch, batches in a row, and passes over the data."""


def traits(dataset: Dataset) -> npt.NDArray[np.float64]:
    """Of every state what the teacher's entropy, value, and probability of each action are; centred, of unit scale."""
    policy = torch.from_numpy(np.array(dataset.logits)).double().softmax(1)
    entropy = -(policy * policy.clamp_min(1e-12).log()).sum(1, keepdim=True)
    assert dataset.value is not None
    whole = torch.cat([policy, entropy, torch.from_numpy(np.array(dataset.value)).double()[:, None]], 1)
    return ((whole - whole.mean(0)) / whole.std(0).clamp_min(1e-9)).numpy()


def spread(sampler: Sampler, of: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the means of batches, and of rows of batches."""
    steps = EPOCHS * sampler.steps_per_epoch
    means = np.stack([of[sampler.batch(step)].mean(0) for step in range(steps)])
    rows = means[: steps // ROW * ROW].reshape(-1, ROW, means.shape[1]).mean(1)
    return float(means.var(0).mean()), float(rows.var(0).mean())


def measure(args: argparse.Namespace) -> list[Row]:
    shards, each = (8, 512) if args.quick else (32, 4_096)
    with tempfile.TemporaryDirectory() as name:
        settings = CollectConfig(out=f"{name}/data", states=shards * each, shard_states=each, jacobian="none")
        with contextlib.redirect_stdout(io.StringIO()):
            collect(validated(Config(env="breakout", seed=1, collect=settings)))
        dataset = WindowedDataset(Path(name) / "data", 1)
        return compared(dataset, BATCH // 8 if args.quick else BATCH)


def compared(dataset: Dataset, batch: int) -> list[Row]:
    index, of = np.arange(len(dataset)), traits(dataset)
    alone, together = spread(Sampler(index, batch, 1), of)
    rows = []
    for window in (1, 2, 4, 8, 16):
        found = spread(WindowSampler(index, batch, 1, dataset.shard_starts, window), of)
        what = f"shuffle in windows of {window} of {len(dataset.shards)} shards"
        rows.append(Row(f"{what}: variance of a batch's means", "a full shuffle", found[0] / alone, "x"))
        rows.append(Row(f"{what}: of {ROW} batches' in a row", "a full shuffle", found[1] / together, "x"))
    return rows


if __name__ == "__main__":
    main(measure, __doc__ or "")
