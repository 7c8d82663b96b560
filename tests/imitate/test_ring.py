"""The ring against a plain list of whole stacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch

from distill.agents.actor import Policy
from distill.config.config import Config
from distill.envs.presets import STACK, Padding, get_preset
from distill.errors import UserError
from distill.imitate.player import Player, Row
from distill.imitate.ring import Ring
from distill.networks.nets import AtariCNN, NetSpec
from teachers.load import load_teacher

COLUMNS: dict[str, tuple[int, ...]] = {"logits": (3,), "value": ()}


class Reference:
    """Lists of (stack, logits, value), lane by lane."""

    def __init__(self, lanes: int, states: int) -> None:
        self.most = -(-states // lanes)
        self.lanes: list[list[tuple[Any, Any, Any]]] = [[] for _ in range(lanes)]

    def add(self, stacks: Any, row: Row) -> None:
        for lane in np.flatnonzero(row.keep):
            self.lanes[lane].append((stacks[lane].copy(), row.logits[lane].copy(), row.value[lane]))
            self.lanes[lane] = self.lanes[lane][-self.most :]


def assert_same(ring: Ring, reference: Reference) -> None:
    assert len(ring) == sum(map(len, reference.lanes))
    for lane, states in enumerate(reference.lanes):
        rows = ring.rows(lane)
        assert len(rows) == len(states)
        if states:
            stacks, logits, values = (np.stack(part) for part in zip(*states, strict=True))
            np.testing.assert_array_equal(ring.stacks(rows), stacks)
            np.testing.assert_array_equal(ring.column("logits", rows), logits)
            np.testing.assert_array_equal(ring.column("value", rows), values)


def random_steps(lanes: int, steps: int, seed: int = 0, padding: Padding = "zero") -> Any:
    """(stacks, row) of lanes that start afresh now and then, and are left out for some steps before."""
    rng = np.random.default_rng(seed)
    stacks = np.zeros((lanes, STACK, 84, 84), np.uint8)
    out, started = np.zeros(lanes, int), np.zeros(lanes, bool)
    for _ in range(steps):
        out = np.where((out == 0) & (rng.random(lanes) < 0.15), rng.integers(1, 4, lanes), np.maximum(out - 1, 0))
        keep = out == 0
        fresh = keep & (~started | (rng.random(lanes) < 0.1))
        started = np.where(keep, True, False)  # the next state after a gap is fresh
        stacks = np.roll(stacks, -1, 1)
        stacks[fresh] = 0
        stacks[:, -1] = rng.integers(1, 256, (lanes, 84, 84))
        if padding == "reset":
            stacks[fresh] = stacks[fresh, -1:]
        logits, value = rng.normal(size=(lanes, 3)), rng.normal(size=lanes)
        nothing = np.zeros(lanes, np.float32)
        frame = stacks[:, -1].copy()
        floats = (logits.astype(np.float32), logits.astype(np.float32), value.astype(np.float32))
        yield stacks, Row(keep, fresh, frame, *floats, nothing, nothing)


@pytest.mark.parametrize("padding", get_args(Padding))
@pytest.mark.parametrize(("lanes", "states"), [(1, 1), (1, 7), (3, 30), (3, 31), (2, 1000)])
def test_equals_a_list_of_stacks(lanes: int, states: int, padding: Padding) -> None:
    ring, reference = Ring(lanes, states, COLUMNS, padding), Reference(lanes, states)
    assert len(ring) == 0
    for step, (stacks, row) in enumerate(random_steps(lanes, 60, padding=padding)):
        ring.add(row)
        reference.add(stacks, row)
        if step % 9 == 0:
            assert_same(ring, reference)
    assert_same(ring, reference)


@pytest.mark.parametrize("name", ["sb3", "cleanrl"])
def test_equals_what_the_student_saw_through_lost_lives_and_games(
    make_config: Callable[..., Config], name: str
) -> None:
    torch.manual_seed(0)
    net = AtariCNN(NetSpec(((2, 8, 4),), ()), 4)
    teacher = load_teacher("breakout", preset=name)
    preset = get_preset(name)
    ring, reference = Ring(3, 400, {"logits": (4,), "value": ()}, preset.padding_type), Reference(3, 400)
    config = make_config(env="breakout", seed=7, imitate={"num_envs": 3})
    with Player(config, preset, teacher, torch.device("cpu")) as player:
        student, gaps, games, lives = Policy(net, torch.device("cpu")), 0, 0, 0
        for _ in range(400):
            before = player.teacher_obs().copy()
            played = player.play(student, 1, 0.0)
            (row,) = played.rows
            ring.extend(played.rows)
            reference.add(before, row)
            gaps, games = gaps + int((~row.keep).sum()), games + len(played.games)
            lives += int(row.end.sum())
    assert games >= 3
    assert lives > 3 * games
    assert gaps > 2 * lives  # at least FIRE and action 2
    assert ring.lane_states == 134
    assert_same(ring, reference)


def test_draws_every_state_alike_and_again_with_the_same_seed() -> None:
    ring = Ring(3, 12, COLUMNS)
    for _, row in random_steps(3, 20):
        ring.add(row)
    kept = np.concatenate([ring.rows(lane) for lane in range(3)])
    drawn = ring.draw(np.random.default_rng(1), 12_000)
    np.testing.assert_array_equal(drawn, ring.draw(np.random.default_rng(1), 12_000))
    found, counts = np.unique(drawn, return_counts=True)
    assert set(found) == set(kept)
    assert abs(counts - 1000).max() < 5 * 1000**0.5


def test_a_ring_that_does_not_fit() -> None:
    with pytest.raises(UserError, match=r"a ring of 1,000,000,000,000 states takes .* GB, .*; lower --imitate\.ring"):
        Ring(2, 10**12, COLUMNS)


@pytest.mark.parametrize("states", [10**18, 10**30])
def test_more_than_can_be_numbered(states: int) -> None:
    with pytest.raises(UserError, match=r"GB, more than there is; lower --imitate\.ring"):
        Ring(2, states, {"logits": (6,)})
