"""Random streams by name: no two of them meet, however their numbers are chosen."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(name: str, *key: int | str) -> np.random.Generator:
    """A generator of its own for ``name`` and ``key``; other names or keys give unrelated ones.

    Args:
        name: what is drawn, such as ``game``.
        key: what it is drawn for: seed, writer, number of the game.
    """
    text = "\0".join([name, *map(repr, key)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()))
