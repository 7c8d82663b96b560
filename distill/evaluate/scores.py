"""Reading scores.json (docs/metrics.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.files import read_json
from distill.shape import Form, check_shape, count, number, optional, text

AGENT: Form = {
    **dict.fromkeys(("kind", "fingerprint"), text),
    **dict.fromkeys(("mean", "median", "iqm"), number),
    **dict.fromkeys(("human_normalized", "share_of_teacher"), optional(number)),
    **dict.fromkeys(("val_kl", "val_action_error", "val_jacobian_cosine"), optional(number)),
    "parameters": count,
    "ci95": lambda ends: isinstance(ends, list) and len(ends) == 2 and all(map(number, ends)),
}
"""What an agent's entry in scores.json must say to be shown again."""
AGENT_KEYS = {"kind", "what", "fingerprint", "parameters", "returns", "mean", "ci95", "share_of_teacher", "val_kl"}


def read_scores(path: Path) -> dict[str, Any]:
    """Content of scores.json.

    Raises:
        UserError: it is missing or not one that ``distill evaluate`` wrote.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; run `distill evaluate` first, or name another with --report.scores")
    record = read_json(path, "scores file")
    check_shape(path, "scores file", record, {"agents": {"*": AGENT}})
    known = isinstance(record, dict) and {"game", "preset", "protocol", "games", "seed", "command"} <= set(record)
    agents = record.get("agents") if known else None
    whole = isinstance(agents, dict) and all(isinstance(f, dict) and f.keys() >= AGENT_KEYS for f in agents.values())
    if not whole or not agents:
        raise UserError(f"{path} is not a scores file of `distill evaluate`; evaluate again")
    return dict(record)
