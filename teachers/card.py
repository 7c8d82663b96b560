"""Model cards: the YAML at the top of a Markdown file that says what an agent is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import UserError, first_line
from distill.system.files import sha256
from distill.system.ranges import is_number
from distill.system.yaml_text import BadYaml, load_yaml

FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)\n---[ \t]*(?:\n|$)", re.DOTALL)


@dataclass(frozen=True)
class CardScore:
    """What an agent scores, by its card, which need not tell more than the mean."""

    mean: float
    """Of whole games, raw reward."""
    protocol: str | None = None
    """As ``distill.envs.protocols`` names them; ``training`` of games that were played while it learned."""
    preset: str | None = None
    """What it saw."""
    games: int | None = None
    """How many were played."""
    standard_error: float | None = None
    """Of the mean."""


def card_scores(name: str, card: Mapping[str, Any]) -> list[CardScore]:
    """The ``scores`` in a card's front matter.

    Args:
        name: whose card it is, for messages.
        card: the front matter.

    Raises:
        UserError: they are something else.
    """
    told = card.get("scores") or []
    if not isinstance(told, list) or not all(
        isinstance(entry, dict) and is_number(entry.get("mean")) for entry in told
    ):
        raise UserError(
            f"teacher {name}: the scores on its card are not a list of such as {{protocol: zoo, preset: sb3, "
            "mean: 19.8, games: 32}, each with a number as its mean; correct the card"
        )
    return [CardScore(**{field: entry.get(field) for field in CardScore.__dataclass_fields__}) for entry in told]


def read_card(path: Path) -> dict[str, Any]:
    """The YAML front matter of a model card (the hub's format), or an empty dict without one.

    Raises:
        UserError: the file cannot be read, or its front matter is not YAML.
    """
    if not path.is_file():
        return {}
    try:
        match = FRONT_MATTER.match(path.read_text(encoding="utf-8-sig"))
        fields = load_yaml(match[1]) if match else None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable model card ({error}); remove or replace it") from error
    except BadYaml as error:
        raise UserError(f"{path}: its front matter is not YAML ({first_line(error)}); correct it") from error
    return fields if isinstance(fields, dict) else {}


def checked_card(agent: Path, card: Path) -> dict[str, Any]:
    """Read ``card`` and compare its ``sha256``, where it names one, with the file ``agent``.

    Raises:
        UserError: the agent is not the file that the card describes.
    """
    fields = read_card(card)
    if "sha256" in fields and agent.is_file() and str(fields["sha256"]).lower() != sha256(agent):
        raise UserError(f"{agent} does not match the sha256 on its card {card}; download or reinstall it")
    return fields
