"""The one exception that means "the user can fix this"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Bad input, said in one sentence: what is wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 1.
    """


class DivergedError(UserError):
    """A training came to a NaN or infinite loss; other settings may do better."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word closest to ``word``, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def lookup(what: str, table: Mapping[str, T], name: str) -> T:
    """Return ``table[name]``.

    Raises:
        UserError: no ``what`` has that name; the message gives the nearest and all known ones.
    """
    if name not in table:
        raise UserError(f"unknown {what} {name!r}{nearest(name, table)}; known: {', '.join(table)}")
    return table[name]


def first_line(error: BaseException) -> str:
    """First line of an error's message, without colours, or its kind where it has none."""
    return next(iter(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()), type(error).__name__)
