"""Fidelity game by game: what an interval that resamples test games is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.batches.loader import Loader
from distill.batches.source import Index
from distill.dataset.reader import Dataset
from distill.dataset.schema import GAME_BITS, GAME_MASK
from distill.engine.step import make_engine
from distill.figures.fidelity import state_sums
from distill.figures.figure import OWN, Figure, from_sums, sums_of
from distill.losses.settings import ObjectiveConfig

Game = dict[str, Any]
"""``writer``, ``game`` (its number there), ``states``, and all of ``sums_of(figures)`` over the game's states."""


def measure_games(
    net: nn.Module, dataset: Dataset, index: Index, *, temperature: float = 1.0,
    device: torch.device | str = "cpu", figures: Sequence[Figure] = OWN,
) -> list[Game]:  # fmt: skip
    """As ``measure``, but what ``figures`` add up in each game, in the order of their numbers."""
    device = torch.device(device)
    net, loader = net.to(device), Loader(dataset, ObjectiveConfig(), device, 1, None)
    by_state = state_sums(net, make_engine(net), loader, index, temperature, figures)
    numbers, place, states = np.unique(dataset.episode[index], return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(place, values, len(numbers)) for values in by_state], 1)
    named = [
        {"writer": dataset.writers[number >> GAME_BITS], "game": number & GAME_MASK} for number in numbers.tolist()
    ]
    return [
        {**name, "states": count, **dict(zip(sums_of(figures), line, strict=True))}
        for name, count, line in zip(named, states.tolist(), sums.tolist(), strict=True)
    ]


def over_games(games: Sequence[Mapping[str, Any]], figures: Sequence[Figure] = OWN) -> dict[str, float | None]:
    """Figures over all states of these games; of the rows of a CSV file exactly what they were before."""
    sums = {name: math.fsum(float(game[name]) for game in games) for name in sums_of(figures)}
    return from_sums(sums, sum(int(game["states"]) for game in games), figures)
