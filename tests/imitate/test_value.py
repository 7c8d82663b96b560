from __future__ import annotations

import numpy as np
import pytest
import torch

from distill.errors import UserError
from distill.imitate import value
from distill.imitate.player import Row
from distill.imitate.ring import Ring
from distill.imitate.value import GAMMA, fit_value
from distill.networks.nets import AtariCNN, NetSpec

SPEC = NetSpec(((2, 8, 4),), (8,))


def fill(steps: int, ends: set[int], net: AtariCNN | None = None) -> Ring:
    """One lane of random frames; reward 1 at each third step, and the net's own value where there is one."""
    rng = np.random.default_rng(0)
    ring = Ring(1, steps, {"logits": (3,), "value": (), "reward": (), "end": ()})
    for t in range(steps):
        frame = rng.integers(0, 256, (1, 84, 84)).astype(np.uint8)
        floats = [np.array([x], np.float32) for x in (t % 3 == 0, t in ends)]
        logits, nothing = np.zeros((1, 3), np.float32), np.zeros(1, np.float32)
        ring.add(Row(np.ones(1, bool), np.array([t == 0]), frame, logits, logits, nothing, *floats))
    if net is not None and net.value is not None:
        rows = ring.rows(0)
        with torch.no_grad():
            x = torch.from_numpy(ring.stacks(rows)) / 255
            ring.column("value", rows)  # it is there
            ring._columns["value"][rows] = net.logits_and_value(x)[1]
    return ring


def test_returns_are_discounted_to_the_end_of_the_life() -> None:
    reward, end = np.array([1, 0, 1, 0, 0, 1], np.float32), np.array([0, 0, 1, 0, 0, 0], np.float32)
    known, returns = value.lane_returns(reward, end)
    assert known.tolist() == [True, True, True, False, False, False]
    assert returns[:3].tolist() == pytest.approx([1 + GAMMA**2, GAMMA, 1])


def test_returns_count_where_they_are_long_enough_without_an_end() -> None:
    reward, end = np.ones(value.HORIZON + 10, np.float32), np.zeros(value.HORIZON + 10, np.float32)
    known, returns = value.lane_returns(reward, end)
    assert known.sum() == 11
    assert returns[known] == pytest.approx(1 / (1 - GAMMA), rel=0.01)


def test_finds_a_value_head_that_is_there() -> None:
    torch.manual_seed(0)
    net = AtariCNN(SPEC, 3, value=True)
    assert net.value is not None
    head, explained = fit_value(net, fill(300, set(), net), 1, "teacher", 1)
    assert explained == pytest.approx(1, abs=1e-3)
    with torch.no_grad():
        features = net.features(torch.rand(50, 4, 84, 84))
        torch.testing.assert_close(head(features), net.value(features), atol=2e-3, rtol=0)


def test_fits_returns() -> None:
    torch.manual_seed(0)
    head, explained = fit_value(AtariCNN(SPEC, 3), fill(300, {50, 150, 290}), 1, "returns", 1)
    assert torch.isfinite(head.weight).all()
    assert 0 < explained < 0.5  # frames are random: what it explains, it has by heart


def test_no_returns_are_known() -> None:
    with pytest.raises(UserError, match=r"no life ended in the ring"):
        fit_value(AtariCNN(SPEC, 3), fill(100, set()), 1, "returns", 1)
