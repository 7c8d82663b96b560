"""Random streams by name: every generator of the toolkit is made here, so that no two of them meet.

A new stream takes a name of its own with ``generator``. The streams of earlier versions have numbers, which stay: runs
that go on, splits and committed scores depend on them.
"""

from __future__ import annotations

import enum
import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

LARGEST = 2**62


class Stream(enum.Enum):
    """Streams that are known by a number; a generator's entropy is (seed, number, key)."""

    LANES = 0
    """Emulators' seeds in the vector env that teachers train in."""
    ORDER = 2
    """Order of the training states; key: epoch."""
    PROJECTIONS = 3
    """Fresh projections of a batch, and which of the stored ones it takes; key: step."""
    SCALE = 4
    """States that the derivatives' mean square is taken over."""
    HELD_OUT = 5
    """Held-out states that are scored. Training and evaluation share it on purpose: they score the same states."""
    EVALUATION = 6
    """Actions in the games of an evaluation; key: first lane of a group. A video shares it on purpose, as lane 0."""
    SMALL_DATA = 7
    """Games that ``train.states`` takes."""
    NOISE_TABLE = 8
    """Table of pixel noise."""
    NOISE = 9
    """Where in that table a batch's noise begins; key: step."""


class Fixed(enum.Enum):
    """Streams that no seed of the user's has a part in, by their entropy.

    At seed 0 they have the numbers of ``EVALUATION`` and ``LANES``, which draw other things from them: actions and
    emulators' seeds. Both decide committed results, so they stay.
    """

    TEST_GAMES = (0, 6)
    """Which whole games a sweep's students are tested on."""
    BOOTSTRAP = (0, 0)
    """Resampled returns, for the interval of a mean."""


def generator(name: str, *key: int | str) -> np.random.Generator:
    """A generator of its own for ``name`` and ``key``; other names or keys give unrelated ones.

    Args:
        name: what is drawn, such as ``game``.
        key: what it is drawn for: seed, writer, number of the game.
    """
    text = "\0".join([name, *map(repr, key)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()))


def torch_generator(name: str, *key: int | str) -> torch.Generator:
    """The same for PyTorch, on the host."""
    import torch

    return torch.Generator().manual_seed(int(generator(name, *key).integers(LARGEST)))


def seed_globals(name: str, *key: int | str) -> None:
    """Seed Python's and NumPy's own generators, for a library that draws from them; as ``generator`` otherwise."""
    drawn = generator(name, *key)
    random.seed(int(drawn.integers(LARGEST)))
    np.random.seed(int(drawn.integers(2**32)))


def numbered(stream: Stream, seed: int, *key: int) -> np.random.Generator:
    """The generator of a numbered stream.

    Args:
        stream: what is drawn.
        seed: the user's.
        key: what it is drawn for, as the stream says.
    """
    return np.random.default_rng([seed, stream.value, *key])


def torch_numbered(stream: Stream, seed: int, *key: int) -> torch.Generator:
    """The same for PyTorch, on the host."""
    import torch

    return torch.Generator().manual_seed(int(numbered(stream, seed, *key).integers(LARGEST)))


def fixed(stream: Fixed) -> np.random.Generator:
    """The generator of a stream that is the same for everyone."""
    return np.random.default_rng(stream.value)


def teacher_games(seed: int, timesteps: int) -> np.random.Generator:
    """What a teacher's training that begins or goes on after so many steps seeds its games with.

    Older than the numbers, it has the timesteps in their place; they are 0 or whole rollouts, which are longer than any
    number is large, and at 0 only seeds for ``LANES`` are drawn.
    """
    return np.random.default_rng([seed, timesteps])


def seed_weights(seed: int) -> None:
    """Seed PyTorch's own generator, which draws a new network's weights."""
    import torch

    torch.manual_seed(seed)
