"""Names of agents. They become files and TensorBoard runs, so not every name can be one."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Sequence

from distill.errors import UserError
from distill.system.registry import is_dotted
from teachers.load import find_teacher

SCORES, PARTIAL = "scores.json", "scores.partial.json"
PLAYING, ATTACKING = "evaluate.lock", "attack.lock"
"""Who plays, or attacks, holds these."""
RESERVED = (SCORES, PARTIAL, "attack.json", PLAYING, ATTACKING)
TEACHER, RANDOM = "teacher", "random"
"""Agents that a word means: who taught the students, and who plays at random."""
LONGEST = 100
"""Bytes; most file systems take 255, of which a temporary name and a suffix want some."""


def split_item(item: str) -> tuple[str, str]:
    """(name or nothing, what) of one item of ``evaluate.agents``.

    ``=`` may stand in folder names too (``lr=0.001``): an item that is there as it stands has no name, and any
    other is split at the first ``=`` with something that is there to its right.
    """
    if is_there(item):
        return "", item
    for place in (place for place, character in enumerate(item) if character == "="):
        if is_there(item[place + 1 :]):
            name = item[:place]
            check_name(name)
            return name, item[place + 1 :]
    name, equals, what = item.partition("=")
    if not equals or "/" in name or not what:
        return "", item  # what loads it says what is wrong
    check_name(name)
    return name, what


def check_commas(items: Sequence[str]) -> None:
    """Refuse parts of a folder's name: a list on the command line is split at every comma that is not in quotes."""
    for start, first in enumerate(items):
        starts = [0, *(place + 1 for place, character in enumerate(first) if character == "=")]
        for end in range(start + 2, len(items) + 1):
            whole = ",".join(items[start:end])
            if not any(os.path.exists(os.path.expanduser(whole[begin:])) for begin in starts):
                continue
            if not all(is_there(split_item(part)[1]) for part in items[start:end]):
                raise UserError(f"--evaluate.agents: {whole} has a comma in its name; put it in quotes: ['{whole}']")


def is_there(what: str) -> bool:
    """True for ``teacher``, ``random``, a bundled agent, one on the hub, a dotted path and anything on disk."""
    if what in (TEACHER, RANDOM) or what.startswith("hf://") or is_dotted(what):
        return True
    if not what:
        return False
    if os.path.exists(os.path.expanduser(what)):
        return True
    try:
        return find_teacher(what).path.exists()
    except (UserError, OSError, ValueError):
        return False


def check_name(name: str) -> None:
    """Refuse a name that cannot be a file in the folder of scores, or would be one that is there already.

    Raises:
        UserError: what is wrong with it.
    """
    wrong = _wrong_with(name)
    if wrong:
        raise UserError(f"--evaluate.agents: an agent cannot be called {name!r}: {wrong}; write another NAME=WHAT")


def check_apart(names: Sequence[str]) -> None:
    """Refuse names that are one file where upper and lower case, or two ways to write an accent, are the same."""
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            alike = f"two agents are called {name!r}"
            alike = alike if seen[key] == name else f"agents {seen[key]!r} and {name!r} may be one file"
            raise UserError(f"{alike}; rename one with --evaluate.agents NAME=WHAT")
        seen[key] = name


def default_name(text: str) -> str:
    """The last part of a path as an agent's name, changed only where it cannot be one."""
    name = "".join("_" if character == "/" or _unprintable(character) else character for character in text)
    if len(name.encode()) > LONGEST:
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
        name = f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}-{digest}"
    return f"agent-{name}".rstrip(".-") if _wrong_with(name) else name


def _wrong_with(name: str) -> str:
    if not name:
        return "it is empty"
    if name in (".", ".."):
        return "it is a folder of its own"
    if name.casefold() in RESERVED:
        return "a file of the results is called so"
    if "/" in name:
        return "it has a slash"
    if any(map(_unprintable, name)):
        return "it has a character that cannot be printed"
    if len(name.encode()) > LONGEST:
        return f"it takes more than {LONGEST} bytes"
    return ""


def _unprintable(character: str) -> bool:
    return unicodedata.category(character)[0] == "C"
