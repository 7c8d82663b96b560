"""Reading scores.json (docs/metrics.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.records.shape import Form, check_shape, count, number, optional, text
from distill.system.files import read_json

AGENT: Form = {
    **dict.fromkeys(("kind", "what", "fingerprint"), text),
    **dict.fromkeys(("mean", "median", "iqm"), number),
    **dict.fromkeys(("human_normalized", "share_of_teacher"), optional(number)),
    **dict.fromkeys(("val_kl", "val_action_error", "val_jacobian_cosine"), optional(number)),
    "parameters": count,
    "returns": [number],
    "ci95": lambda ends: isinstance(ends, list) and len(ends) == 2 and all(map(number, ends)),
}
"""What an agent's entry in scores.json must say to be shown again."""
SCORES: Form = {**dict.fromkeys(("game", "preset", "protocol", "command"), text), "games": count, "seed": count,
                "agents": {"*": AGENT},
                "figures?": {"*": dict.fromkeys(("title", "meaning", "unit", "form"), text)}}  # fmt: skip


def read_scores(path: Path) -> dict[str, Any]:
    """Content of scores.json.

    Raises:
        UserError: it is missing, or not as ``distill evaluate`` writes it.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; run `distill evaluate` first, or name another with --report.scores")
    record = read_json(path, "scores file")
    check_shape(path, "scores file", record, SCORES)
    if not record["agents"]:
        raise UserError(f"{path} has no agents; evaluate again")
    return dict(record)
