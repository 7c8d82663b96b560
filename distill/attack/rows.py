"""attack.json: a row for every agent, method and size; and the table that people see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.attack.settings import ThreatConfig
from distill.errors import UserError
from distill.records.record import Kind
from distill.records.shape import count, number, optional, text
from distill.system.progress import print_table

ATTACK_FILE = "attack.json"
Row = dict[str, Any]
ROW = {
    **dict.fromkeys(("agent", "fingerprint", "preset"), text),
    "method": optional(text),
    **dict.fromkeys(("eps", "hits"), optional(number)),
    **dict.fromkeys(("action_error", "kl", "flips", "changed", "seconds"), number),
    "temperature?": number,
}
RECORD = Kind(
    "record of attacks",
    {"game": text, "data": text, "index?": text, "states": count, "seed": count, "threat": {}, "rows": [ROW]},
    version=1,
    sealed_since=1,
)


@dataclass(frozen=True)
class Terms:
    """What all rows of a file have in common."""

    game: str
    data: str
    """Digest of the dataset."""
    index: str
    """Digest of which of its states."""
    states: int
    seed: int
    threat: Mapping[str, Any]


def read_rows(path: Path, terms: Terms) -> list[Row]:
    """Rows that are there; none without a file.

    Raises:
        UserError: they are of other states, of another seed or threat, or damaged.
    """
    if not path.exists():
        return []
    record = RECORD.read(path)
    for name, value in asdict(terms).items():
        if name != "index" and record[name] != value:
            raise UserError(f"{path} is of {name} {record[name]}, not {value}; choose another --attack.out")
    if record.get("index") != terms.index:
        raise UserError(
            f"{path} is of other states: which ones depends on what the students among the agents were trained on; "
            "choose another --attack.out"
        )
    rows: list[Row] = record["rows"]
    return rows


def write_rows(path: Path, terms: Terms, rows: Sequence[Row]) -> None:
    """Replace the file, atomically and durably."""
    RECORD.write(path, {**asdict(terms), "rows": list(rows)})


def whose(row: Row) -> tuple[str, str, float]:
    """The agent that a row is of: fingerprint, preset, and temperature of the teacher that it is compared with."""
    # Rows of earlier versions do not say; it was 1 but for students of another, which are measured again.
    return row["fingerprint"], row["preset"], row.get("temperature", 1.0)


def show(game: str, rows: Sequence[Row], states: int, threat: ThreatConfig) -> None:
    """Print the table."""
    targeted = threat.target is not None
    header = ["agent", "attack", "eps", "action error", "KL", "flips", *(["hits"] if targeted else []), "RMS"]
    lines = [
        [
            row["agent"],
            row["method"] or "none",
            "" if row["eps"] is None else f"{row['eps']:g}",
            f"{row['action_error']:.1%}",
            f"{row['kl']:.4f}",
            f"{row['flips']:.1%}",
            *([f"{row['hits']:.1%}"] if targeted else []),
            f"{row['changed']:.2f}",
        ]
        for row in rows
    ]
    source = f", slopes of {threat.source}" if threat.source else ""
    print_table(f"{game}, {states:,} states, {threat.norm}{source}; eps and RMS in gray levels", header, lines)
