"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.errors import UserError
from distill.files import replacing


@dataclass
class Progress:
    """Where a run stands. Batches, learning rate and projections follow from step and seed."""

    step: int = 0
    """Optimizer steps done."""
    best_kl: float = float("inf")
    """Lowest val/kl so far."""
    best_step: int = 0
    """Its step."""
    bad_validations: int = 0
    """Validations since then."""
    jacobian_scale: float = 1.0
    """s, fixed at the start."""
    train_states: int = 0
    """Training states; a dataset that has grown since makes it another run."""
    seconds: float = 0.0
    """Training time so far, validation and saving included."""


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, config: dict[str, Any]
) -> None:
    """Write a checkpoint atomically."""
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": dict(vars(progress)),
        "rng": torch.get_rng_state(),
        "config": config,
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint without unpickling objects.

    Raises:
        UserError: missing or damaged.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict) or not {"model", "optimizer", "progress", "rng", "config"} <= content.keys():
        raise UserError(f"{path} is not a checkpoint of this toolkit")
    return content
