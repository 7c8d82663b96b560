"""Presets: named, hashed descriptions of everything between the emulator and the agent's eyes.

An agent only plays well on the preprocessing it was trained with, so a preset's hash travels with
every dataset and student, and a mismatch is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from distill.errors import UserError, nearest
from distill.system.registry import Registry, is_dotted

FIRST = ("gray", "frame_skip", "frame_size", "frame_stack", "noop_max", "fire_reset", "life_loss_reset", "max_frames")
"""Fields that are always hashed. A later one is only where it is not at its default, so that older data and students
fit: its default must be what they had, and never change."""
SIGHT = (
    "gray", "luma", "resize", "resize_first", "frame_size", "frame_stack", "padding_type", "fire_reset",
    "life_loss_reset",
)  # fmt: skip
"""Fields that decide what stacks hold, given the screens: pixels, and when a stack begins anew."""
WORDS = ("name", "meaning")
"""Fields that change nothing that is seen."""
SIZE, STACK = 84, 4
OBS_SHAPE = (STACK, SIZE, SIZE)
"""Of every observation: networks, datasets and exported students know no other, so a preset refuses it."""
Resize = Literal["area", "linear"]
Luma = Literal["bt601", "bt709", "async-rl", "gymnasium"]
Padding = Literal["zero", "reset"]


@dataclass(frozen=True)
class Preset:
    """One preprocessing. Equal hashes mean equal pixels.

    Raises:
        UserError: values that nothing here supports.
    """

    name: str
    """Name used in configs; not part of the hash."""
    gray: Literal["max-then-gray", "gray-then-max"]
    """Order of the two-frame maximum and the gray conversion; they differ where colours overlap."""
    frame_skip: int = 4
    """Emulator frames per agent step; the last two are max-pooled."""
    frame_size: int = SIZE
    """Height and width of a frame in pixels: 84, which every network here takes."""
    frame_stack: int = STACK
    """Frames in one observation, oldest first: 4."""
    noop_max: int = 30
    """A game starts with noop_min..noop_max no-op frames, drawn uniformly."""
    fire_reset: bool = True
    """Play FIRE and action 2 after a reset or a life loss where the game has FIRE."""
    life_loss_reset: bool = True
    """Begin the stack anew and play one no-op after a life loss, as SB3's EpisodicLifeEnv does."""
    max_frames: int = 108_000
    """A game is truncated after this many emulator frames."""
    resize: Resize = "area"
    """OpenCV's INTER_AREA or INTER_LINEAR."""
    luma: Luma = "bt601"
    """Weights of red, green and blue: ``bt601``, OpenCV's RGB2GRAY; ``bt709``, 0.2126, 0.7152, 0.0722, the sum cut
    off to whole numbers; ``async-rl``, the same with green's and blue's exchanged; ``gymnasium``, 0.2125, 0.7154,
    0.0721, cut off likewise, as Gymnasium 1's GrayscaleObservation has them."""
    noop_min: int = 1
    """1, or 0."""
    resize_first: bool = False
    """Resize the colour screen and turn it gray then, instead of the other way round."""
    padding_type: Padding = "zero"
    """Gymnasium's word for what stands before a stack's first frame: ``zero``, black frames; ``reset``, that frame."""
    meaning: str = ""
    """What it shows, and to whom, in a line; not part of the hash."""

    def __post_init__(self) -> None:
        for field, allowed in (
            ("gray", ("max-then-gray", "gray-then-max")),
            ("frame_size", (SIZE,)),
            ("frame_stack", (STACK,)),
            ("resize", get_args(Resize)),
            ("luma", get_args(Luma)),
            ("noop_min", (0, 1)),
            ("resize_first", (False, True)),
            ("padding_type", get_args(Padding)),
        ):
            value = getattr(self, field)
            if value not in allowed:
                known = " or ".join(repr(one) for one in allowed)
                raise UserError(f"preset {self.name!r}: {field} must be {known}, got {value!r}")
        for field, least in (("frame_skip", 1), ("noop_max", 0), ("max_frames", 1)):
            if not getattr(self, field) >= least:
                raise UserError(f"preset {self.name!r}: {field} must be {least} or more, got {getattr(self, field)!r}")
        if self.gray == "gray-then-max" and (self.resize, self.luma) != ("area", "bt601"):
            raise UserError(
                f"preset {self.name!r}: with gray-then-max the emulator itself turns frames gray, by resize 'area' and "
                f"luma 'bt601', got {self.resize!r} and {self.luma!r}; use max-then-gray"
            )
        if self.gray == "gray-then-max" and self.resize_first:
            raise UserError(
                f"preset {self.name!r}: with gray-then-max the emulator itself turns frames gray, before they are "
                "resized; resize_first is for max-then-gray"
            )

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 over the fields; words are none of them, nor a later one's default."""
        hashed = {f.name: getattr(self, f.name) for f in fields(self) if f.name in FIRST}
        later = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in (*FIRST, *WORDS)}
        hashed |= {name: value for name, value in later.items() if value != getattr(type(self), name)}
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]

    def sees_as(self, other: Preset) -> bool:
        """True where both make the same stacks of the same screens, so that a derivative means the same in both."""
        return all(getattr(self, name) == getattr(other, name) for name in SIGHT)


PRESETS: Registry[Preset] = Registry("preset", "a Preset", lambda thing: isinstance(thing, Preset))
"""By name; ``register_preset`` adds one."""


def register_preset(preset: Preset) -> Preset:
    """Add a preset, whose name then works wherever a preset is named, in every process that registers it.

    Raises:
        UserError: its name is taken.
    """
    return PRESETS.register(preset.name, preset)


for _preset in (
    Preset(
        name="sb3", gray="max-then-gray",
        meaning="exactly stable-baselines3's `make_atari_env` and `VecFrameStack(4)`: agents from there and from "
        "RL Baselines3 Zoo (default)",
    ),
    Preset(
        name="sb3-fast", gray="gray-then-max",
        meaning="gray before the two-frame maximum, as ALE's vector environment has it: 10–20 % faster; equal pixels "
        "in many games",
    ),
    Preset(
        name="async-rl", gray="max-then-gray", resize="linear", luma="async-rl",
        noop_min=0, fire_reset=False, life_loss_reset=False,
        meaning="A3C agents of muupan/async-rl and its many descendants; luma is 0.2126 R + 0.0722 G + 0.7152 B, cut "
        "off to whole numbers",
    ),
    Preset(
        name="cleanrl", gray="max-then-gray", resize_first=True, padding_type="reset",
        meaning="CleanRL's ppo_atari, dqn_atari, c51_atari, with the Gymnasium that it pins (0.28, 0.29)",
    ),
    Preset(
        name="cleanrl-gymnasium1", gray="max-then-gray", resize_first=True, padding_type="reset", luma="gymnasium",
        meaning="the same scripts under Gymnasium 1.0 and later",
    ),
):  # fmt: skip
    register_preset(_preset)


def get_preset(name: str) -> Preset:
    """Look a preset up by name, or by the dotted path ``package.module:attribute``, which then is its name.

    Raises:
        UserError: no preset has that name, or the path leads to none.
    """
    found = PRESETS.find(name)
    return replace(found, name=name) if is_dotted(name) else found


def check_recorded(papers: object, name: str) -> None:
    """Refuse papers that name a preset that is not here.

    Args:
        papers: whose they are, for messages.
        name: of the preset.

    Raises:
        UserError: what is missing.
    """
    if not is_dotted(name) and name not in PRESETS:
        raise UserError(
            f"{papers} is of preset {name!r}, which is not registered here{nearest(name, PRESETS)}; import the package "
            "that registers it, on the command line by DISTILL_PLUGINS=its_name (docs/presets.md)"
        )
    try:
        get_preset(name)
    except UserError as error:
        raise UserError(f"{papers} is of a preset that is not here: {error}") from error
