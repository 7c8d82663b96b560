"""Presets: named, hashed descriptions of everything between the emulator and the agent's eyes.

An agent only plays well on the preprocessing it was trained with, so a preset's hash travels with
every dataset and student, and a mismatch is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from distill.errors import lookup


@dataclass(frozen=True)
class Preset:
    """One preprocessing. Equal hashes mean equal pixels."""

    name: str
    """Name used in configs; not part of the hash."""
    gray: Literal["max-then-gray", "gray-then-max"]
    """Order of the two-frame maximum and the gray conversion; they differ where colours overlap."""
    frame_skip: int = 4
    """Emulator frames per agent step; the last two are max-pooled."""
    frame_size: int = 84
    """Height and width of a frame in pixels."""
    frame_stack: int = 4
    """Frames in one observation, oldest first."""
    noop_max: int = 30
    """A game starts with 1..noop_max no-op frames, drawn uniformly."""
    fire_reset: bool = True
    """Play FIRE and action 2 after a reset or a life loss where the game has FIRE."""
    life_loss_reset: bool = True
    """Zero the stack and play one no-op after a life loss, as SB3's EpisodicLifeEnv does."""
    max_frames: int = 108_000
    """A game is truncated after this many emulator frames."""

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 over every field but the name."""
        fields = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(name="sb3", gray="max-then-gray"),
        Preset(name="sb3-fast", gray="gray-then-max"),
    )
}


def get_preset(name: str) -> Preset:
    """Look a preset up by name.

    Raises:
        UserError: no preset has that name.
    """
    return lookup("preset", PRESETS, name)
