"""What a format of teachers is, and the registry of those that are read.

One more format is one more file in this folder that ends in a ``FORMAT``, or a ``register_teacher_format`` in a package
of anyone's (docs/teachers.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from distill.errors import UserError
from distill.system.registry import Registry

Read = Callable[[Path, float, Mapping[str, Any]], "LoadedPolicy"]


@dataclass(frozen=True)
class LoadedPolicy:
    """A network rebuilt from a file, before anyone says which game it plays."""

    net: nn.Module
    """Float pixels in [0, 1], (B, 4, 84, 84), to logits (B, A); ``logits_and_value``, where it has one, gives the value
    (B,) as well."""
    algorithm: str
    """In one word. SB3's: ``PPO/A2C`` (the weights do not tell which), ``TRPO``, ``DQN``, ``QR-DQN`` or ``student``."""
    num_actions: int
    """Width of the policy head."""
    tau: float | None = None
    """Q-value agents only: the logits are Q / tau already."""
    state: Mapping[str, Tensor] = field(default_factory=dict)
    """What tells this agent from others, by name; by default the net's parameters and buffers."""

    def __post_init__(self) -> None:
        if not self.state:
            object.__setattr__(self, "state", self.net.state_dict())


@dataclass(frozen=True)
class TeacherFormat:
    """How agents of one kind are told and read."""

    name: str
    """In a word or two."""
    recognises: Callable[[Path], bool]
    """Whether a file or folder is one; it must not take long, and not raise for what is damaged or missing."""
    read: Read
    """The policy in a file or folder. Called with its path, the temperature of Q-values (logits = Q / tau), and the
    front matter of its card, empty where it has none. A UserError says in one sentence what is wrong with the file."""
    suffix: str = ""
    """How its files end, if they do."""
    is_what_a_folder_means: bool = False
    """A folder, or a repository on the hub, with one file of that ending means this file, if no zip is in it."""
    preset: str | None = None
    """What its agents see where nothing tells otherwise; by default what is recorded."""
    told: Callable[[Path], Mapping[str, Any]] = lambda path: {}
    """What stands in the file itself, in the words of rl-zoo's and CleanRL's settings (``env``, ``env_id``, ``game``,
    ``preset``, ...); nothing where it cannot be read. ``student``: papers of a student that the file is."""

    files: str = ""
    """What it is recognised by, for people."""
    agents: str = ""
    """Whose agents are read, likewise."""

    def __post_init__(self) -> None:
        if self.is_what_a_folder_means and not self.suffix.startswith("."):
            raise UserError(f"format {self.name!r}: a file that a folder means needs a suffix, such as .mine")


FORMATS: Registry[TeacherFormat] = Registry(
    "format of teachers",
    "a TeacherFormat",
    lambda thing: isinstance(thing, TeacherFormat),
    own=("teachers.formats", "FORMAT"),
)


def register_teacher_format(made: TeacherFormat) -> TeacherFormat:
    """Read agents of one more kind; it is asked before those that were there already.

    Raises:
        UserError: its name is taken.
    """
    return FORMATS.register(made.name, made)


def format_of(path: Path) -> TeacherFormat | None:
    """The format of a file or folder; None where no format knows it."""
    return next((known for known in reversed(list(FORMATS.values())) if known.recognises(path)), None)


def formats() -> list[TeacherFormat]:
    """All that are known."""
    return list(FORMATS.values())


def without_ending(name: str) -> str:
    """A file's name without the ending of its format."""
    for form in formats():
        name = name.removesuffix(form.suffix)
    return name
