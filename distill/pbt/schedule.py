"""The schedule that a population found, a plain file: what its best student trained with, until which step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from distill.errors import UserError
from distill.pbt.rounds import Round, Settings
from distill.pbt.settings import CHANGING
from distill.system.files import at_home, write_bytes
from distill.system.ranges import is_number
from distill.system.yaml_text import BadYaml, read_yaml

FORM = "pbt-schedule"
HEAD = """\
# How the best student of a population was trained: settings, each until a step.
# distill pbt --pbt.replay=THIS trains one student by it, without Ray.
"""


@dataclass(frozen=True)
class Segment:
    """A stretch of a training."""

    until: int
    """Its last step."""
    settings: Settings


def ancestry(rounds: Sequence[Round], last: Round) -> list[Round]:
    """A round and all that it stems from, the first first."""
    by_name = {one.run: one for one in rounds}
    found = [last]
    while found[0].parent:
        found.insert(0, by_name[found[0].parent])
    return found


def best_of(rounds: Sequence[Round], steps: int) -> Round | None:
    """The best of the rounds that took all steps; None where none did."""
    ended = [one for one in rounds if one.step == steps]
    return min(ended, key=lambda one: (one.val_kl, one.run), default=None)


def write_schedule(path: Path, chain: Sequence[Round], seed: int) -> None:
    """Write the schedule of a chain of rounds.

    Args:
        path: the file.
        chain: of ``ancestry``.
        seed: of the training.
    """
    segments = [{"until": one.step, **{name: float(one.settings[name]) for name in one.settings}} for one in chain]
    content = {"form": FORM, "version": 1, "seed": seed, "segments": segments}
    write_bytes(path, (HEAD + yaml.safe_dump(content, sort_keys=False)).encode())


def read_schedule(name: str, steps: int) -> list[Segment]:
    """The segments of a schedule.

    Args:
        name: the file.
        steps: of the training that is to follow it.

    Raises:
        UserError: it is no schedule, or of another length.
    """
    path = at_home(name)
    try:
        content = read_yaml(path)
    except (BadYaml, OSError) as error:
        raise UserError(f"--pbt.replay={name} cannot be read: {error}; name a schedule.yaml of distill pbt") from error
    if not isinstance(content, dict) or content.get("form") != FORM or content.get("version") != 1:
        raise UserError(f"--pbt.replay={name} is no schedule of distill pbt of this version; name its schedule.yaml")
    told = content.get("segments")
    segments = [_segment(name, one) for one in (told if isinstance(told, list) and told else [{}])]
    ends = [0, *(one.until for one in segments)]
    if any(later <= earlier for earlier, later in itertools.pairwise(ends)):
        raise UserError(f"--pbt.replay={name}: its segments must end after ever more steps")
    if ends[-1] != steps:
        raise UserError(f"--pbt.replay={name} is of {ends[-1]:,} steps, not {steps:,}; set --train.steps={ends[-1]}")
    return segments


def _segment(name: str, told: object) -> Segment:
    if not isinstance(told, dict) or type(told.get("until")) is not int:
        raise UserError(f"--pbt.replay={name}: every segment must say until which step it lasts, as until: 500")
    settings = {key: value for key, value in told.items() if key != "until"}
    for key, value in settings.items():
        if key not in CHANGING:
            raise UserError(f"--pbt.replay={name} changes {key!r}; a schedule can change {', '.join(CHANGING)}")
        if not is_number(value):
            raise UserError(f"--pbt.replay={name}: {key} must be a number, got {value!r}")
    return Segment(told["until"], {key: float(value) for key, value in settings.items()})
