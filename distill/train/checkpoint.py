"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import UserError, first_line
from distill.system.files import in_memory, write_bytes
from distill.system.progress import console


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
    """Training states."""
    seconds: float = 0.0
    """Training time so far, validation and saving included."""
    data: dict[str, Any] = field(default_factory=dict)
    """Which data it trains on (``DataUsed``); other data makes it another run."""


MARK = b"\nsha256 of what is before this line: "
LENGTH = len(MARK) + 64
NAMES = ("last", "previous")
"""Checkpoints that a run can go on from, newest first."""


def save_checkpoint(path: Path, content: dict[str, Any], keep: Path | None = None) -> None:
    """Write a checkpoint atomically: ``torch.save``'s bytes, which ``torch.load`` reads, and a checksum behind them.

    Args:
        path: the file.
        content: what is saved.
        keep: where the file that is replaced goes.
    """
    # The content says so too: a checksum that cannot be recognised must not pass for one that never was there.
    data = in_memory(lambda file: torch.save({**content, "has_checksum": True}, file))
    write_bytes(path, data + MARK + hashlib.sha256(data).hexdigest().encode(), keep)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint without unpickling objects.

    Raises:
        UserError: missing, or damaged by as little as one bit. (The last version's checkpoints have no checksum
            of their own, only those of the ZIP format over every tensor.)
    """
    try:
        data = path.read_bytes()
        has_checksum = data[-LENGTH:].startswith(MARK)
        if has_checksum and hashlib.sha256(data[:-LENGTH]).hexdigest().encode() != data[-64:]:
            raise ValueError("it does not match its checksum")
        if not has_checksum and (damaged := zipfile.ZipFile(io.BytesIO(data)).testzip()):
            raise ValueError(f"{damaged} in it does not match its checksum")
        content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # damage can make an unpickler raise anything
        raise UserError(f"{path} is not a readable checkpoint ({first_line(error)})") from error
    if not isinstance(content, dict) or not {"model", "optimizer", "progress", "rng", "config"} <= content.keys():
        raise UserError(f"{path} is not a checkpoint of this toolkit")
    if content.get("has_checksum", False) != has_checksum:
        raise UserError(f"{path} is not a readable checkpoint (its checksum is missing)")
    return content


def can_go_on(folder: Path) -> bool:
    """True for a run folder with a checkpoint to go on from, damaged or not."""
    return any((folder / "checkpoints" / f"{name}.pt").exists() for name in NAMES)


def newest_checkpoint(folder: Path, device: torch.device, flag: str = "--train.out") -> dict[str, Any]:
    """The run's last checkpoint or, where that is damaged, the one before it, which it says.

    Args:
        folder: the run.
        device: where its tensors go.
        flag: the setting to change where there is none, for the error.

    Raises:
        UserError: neither can be read.
    """
    errors: list[str] = []
    for path in (folder / "checkpoints" / f"{name}.pt" for name in NAMES):
        if not path.exists():
            continue
        try:
            content = load_checkpoint(path, device)
        except UserError as error:
            errors.append(str(error))
            continue
        if errors:
            console.print(f"{errors[0]}: going on from {path.name}, the checkpoint before it")
            with contextlib.suppress(FileNotFoundError):  # else the next checkpoint would push out the good one
                os.replace(path.with_name("last.pt"), path.with_name("damaged.pt"))
        return content
    also = " and no more is previous.pt" if len(errors) > 1 else ", and there is none before it"
    raise UserError(f"{errors[0]}{also}; choose another {flag} to start again")


def best_weights(content: dict[str, Any], folder: Path, device: torch.device) -> dict[str, Tensor]:
    """The best weights up to a checkpoint; nothing where none were judged yet.

    Raises:
        UserError: a checkpoint of the last version, which has them in best.pt only, and that is damaged.
    """
    if "best" in content:
        return dict(content["best"])
    if not content["progress"]["best_step"]:
        return {}
    return dict(load_checkpoint(folder / "checkpoints" / "best.pt", device)["model"])
