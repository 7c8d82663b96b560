"""Games of the agents that have finished, kept while others still play: a killed evaluation goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.agents.names import PARTIAL
from distill.errors import UserError
from distill.records.seal import check_seal, sealed
from distill.records.shape import Form, check_shape, count, number, text
from distill.system.files import read_json, write_json
from distill.system.progress import console

WHAT = "record of games"
ENTRY: Form = {"terms": {"games": count}, "fingerprint": text, "returns": [number], "lengths": [count]}


@dataclass(frozen=True)
class Played:
    """Whole games of one agent, lane by lane."""

    returns: list[float]
    """Raw return of each."""
    lengths: list[int]
    """Agent steps of each."""


@dataclass(frozen=True)
class Terms:
    """What decides how an agent's games go, besides its weights."""

    game: str
    preset: str
    protocol: str
    games: int
    num_envs: int
    seed: int
    attack: Mapping[str, Any] = field(default_factory=dict)
    """What the agents play under."""

    def to_dict(self) -> dict[str, Any]:
        """As it is kept; without an attack as it always was."""
        return {name: value for name, value in asdict(self).items() if name != "attack" or value}


class Kept:
    """``scores.partial.json`` in the folder of scores; entries of other evaluations stay until this one is complete.

    Args:
        folder: of the scores.
        terms: of this evaluation.
    """

    def __init__(self, folder: Path, terms: Terms) -> None:
        self._path, self._terms = folder / PARTIAL, terms.to_dict()
        self._entries: list[dict[str, Any]] = []
        if self._path.exists():
            try:
                entries = list(read_json(self._path, WHAT))
            except (UserError, TypeError) as error:
                entries = []
                console.print(f"{error}; every agent plays again")
            self._entries = [entry for entry in entries if _is_whole(self._path, entry)]
            if len(self._entries) < len(entries):
                console.print(f"{self._path}: a damaged {WHAT} is left out; whose games they were plays again")

    def find(self, fingerprint: str, preset: str | None = None) -> Played | None:
        """The games of an agent, if it has played them; ``preset``: what it sees, by default that of the terms."""
        for entry in self._entries:
            if entry["terms"] == self._of(preset) and entry["fingerprint"] == fingerprint:
                return Played(entry["returns"], entry["lengths"])
        return None

    def add(self, fingerprint: str, played: Played, preset: str | None = None) -> None:
        """Write an agent's games down, durably."""
        self._entries.append(sealed({"terms": self._of(preset), "fingerprint": fingerprint, **asdict(played)}))
        write_json(self._path, self._entries)

    def _of(self, preset: str | None) -> dict[str, Any]:
        return self._terms if preset is None else self._terms | {"preset": preset}

    def remove(self) -> None:
        """Call when scores.json is written."""
        self._path.unlink(missing_ok=True)


def _is_whole(path: Path, entry: Any) -> bool:
    """Whether an entry is one that was written, and has not rotted; those of earlier versions have no checksum."""
    try:
        check_shape(path, WHAT, entry, ENTRY)
        check_seal(path, entry, WHAT, must=False)
    except UserError:
        return False
    return all(len(entry[name]) == entry["terms"]["games"] for name in ("returns", "lengths"))
