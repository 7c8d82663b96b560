"""A checksum inside a JSON record, over everything else in it, so that rot in a number is noticed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import UserError

KEY = "checksum"


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its checksum."""
    return {**record, KEY: _checksum(record)}


def check_seal(path: Path, record: Mapping[str, Any], what: str) -> None:
    """Compare a record with its checksum; one of an earlier version has none.

    Args:
        path: where it was read from.
        record: its content.
        what: what it is, for the error.

    Raises:
        UserError: they differ.
    """
    told = record.get(KEY)
    # A checksum under another name is one whose name has rotted.
    misnamed = any(isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v) for k, v in record.items() if k != KEY)
    if (told is None and misnamed) or (told is not None and told != _checksum(record)):
        raise UserError(f"{path} does not match its own checksum: this {what} is damaged; restore it from a copy")


def _checksum(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != KEY}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
