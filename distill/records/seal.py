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


def check_seal(path: Path, record: Mapping[str, Any], what: str, *, must: bool | None = None) -> None:
    """Compare a record with its checksum.

    Args:
        path: where it was read from.
        record: its content.
        what: what it is, for the error.
        must: whether it has one. By default one of an earlier version has none, unless a value looks like one whose
            name has rotted.

    Raises:
        UserError: they differ.
    """
    told = record.get(KEY)
    if must is None:
        must = any(isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v) for k, v in record.items() if k != KEY)
    if (told is None and must) or (told is not None and told != _checksum(record)):
        raise UserError(f"{path} does not match its own checksum: this {what} is damaged; restore it from a copy")


def _checksum(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != KEY}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
