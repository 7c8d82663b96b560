"""Random streams have names, no two of them meet, and those of earlier versions draw what they always did."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.system import streams
from distill.system.streams import Fixed, Stream, fixed, generator, numbered, teacher_games, torch_numbered

ROOT = Path(__file__).parents[2]
MAKERS = {
    "default_rng", "Generator", "RandomState", "SeedSequence", "PCG64", "MT19937", "Philox", "SFC64",
    "manual_seed", "manual_seed_all", "seed",
}  # fmt: skip


def test_no_two_names_share_a_number() -> None:
    assert len({stream.value for stream in Stream}) == len(Stream.__members__)  # an alias would not be counted
    assert len({stream.value for stream in Fixed}) == len(Fixed.__members__)


def test_no_two_streams_draw_the_same() -> None:
    seeds, keys = (0, 1, 2, 3, 7, 2**30 - 1), ((), (0,), (1,), (5,), (640,))
    drawn = [(s, k, numbered(stream, s, *k)) for stream in Stream for s in seeds for k in keys if k != (0,)]
    drawn += [
        (s, "", generator(name, s)) for name in ("verify", "jitter", "value head", "batch", "carriers") for s in seeds
    ]
    firsts = [rng.integers(2**62) for _, _, rng in drawn]
    assert len(set(firsts)) == len(firsts)
    assert {fixed(one).integers(2**62) for one in Fixed} == {
        numbered(stream, 0).integers(2**62) for stream in (Stream.EVALUATION, Stream.LANES)
    }  # the two that the documentation tells of


@pytest.mark.parametrize(
    ("stream", "entropy"),
    [
        (numbered(Stream.LANES, 3), 3),
        (numbered(Stream.ORDER, 1, 4), [1, 2, 4]),
        (numbered(Stream.SCALE, 1), [1, 4]),
        (numbered(Stream.HELD_OUT, 9), [9, 5]),
        (numbered(Stream.EVALUATION, 1, 8), [1, 6, 8]),
        (numbered(Stream.SMALL_DATA, 1), [1, 7]),
        (numbered(Stream.NOISE, 1, 11), [1, 9, 11]),
        (fixed(Fixed.TEST_GAMES), [0, 6]),
        (fixed(Fixed.BOOTSTRAP), 0),
        (teacher_games(5, 640), [5, 640]),
    ],
)
def test_numbered_streams_draw_what_earlier_versions_drew(
    stream: np.random.Generator, entropy: int | list[int]
) -> None:
    assert (stream.integers(2**62, size=8) == np.random.default_rng(entropy).integers(2**62, size=8)).all()


@pytest.mark.parametrize(
    ("stream", "key", "entropy"), [(Stream.PROJECTIONS, (3,), [1, 3, 3]), (Stream.NOISE_TABLE, (), [1, 8])]
)
def test_the_same_for_torch(stream: Stream, key: tuple[int, ...], entropy: list[int]) -> None:
    then = torch.Generator().manual_seed(int(np.random.default_rng(entropy).integers(2**62)))
    assert torch.equal(torch.rand(8, generator=torch_numbered(stream, 1, *key)), torch.rand(8, generator=then))


def test_new_weights_follow_from_the_seed() -> None:
    streams.seed_weights(4)
    first = torch.rand(4)
    assert torch.equal(first, torch.rand(4, generator=torch.Generator().manual_seed(4)))


def _makers(path: Path) -> Iterator[str]:
    """Calls in a file that make or seed a generator."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        of = called.value if isinstance(called, ast.Attribute) else None
        if name == "seed" and not (isinstance(of, ast.Attribute) and of.attr == "random"):
            continue  # of an environment, not numpy.random.seed
        if name in MAKERS:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {name}"


def test_nothing_else_makes_a_generator() -> None:
    found = [made for room in ("distill", "teachers") for path in (ROOT / room).rglob("*.py") for made in _makers(path)]
    there = {made.split(":")[0] for made in found}
    assert there == {"distill/system/streams.py"}, found
