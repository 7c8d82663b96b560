from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ale_py.vector_env import AtariVectorEnv

from distill.envs import emulators
from distill.envs.emulators import Emulators

SETTINGS: dict[str, Any] = {
    "max_num_frames_per_episode": 60, "repeat_action_probability": 0.25, "autoreset_mode": "SameStep",
    "img_height": 210, "img_width": 160, "grayscale": False, "stack_num": 1, "noop_max": 31,
    "reward_clipping": False, "use_fire_reset": False,
}  # fmt: skip
INFO = ("lives", "episode_frame_number")


class Seen:
    """What ``prepare`` was given, lane by lane."""

    def __init__(self, lanes: int) -> None:
        self.frames: list[npt.NDArray[np.uint8]] = [np.zeros(0, np.uint8)] * lanes

    def __call__(self, first: int, frames: npt.NDArray[np.uint8]) -> None:
        self.frames[first : first + len(frames)] = frames[:, 0]


def _same(seen: Seen, frames: Any, info: Any, expected: Any, expected_info: Any) -> None:
    for lane in range(len(expected)):
        np.testing.assert_array_equal(frames[lane], expected[lane, 0])
        np.testing.assert_array_equal(seen.frames[lane], expected[lane, 0])
    for name in INFO:
        np.testing.assert_array_equal(info[name], expected_info[name])


@pytest.mark.parametrize(("lanes", "threads"), [(1, 0), (3, 0), (7, 0), (7, 1), (8, 3), (20, 0)])
def test_several_environments_play_what_one_plays(lanes: int, threads: int) -> None:
    seen = Seen(lanes)
    ours, one = (
        Emulators("breakout", lanes, seen, num_threads=threads, **SETTINGS),
        AtariVectorEnv("breakout", lanes, **SETTINGS),
    )
    _same(seen, *ours.reset(seed=5), *one.reset(seed=5))
    rng = np.random.default_rng(0)
    ended = 0
    for number in range(120):
        actions = rng.integers(4, size=lanes)
        ours.send(actions)
        one.send(actions)
        got, expected = ours.recv(), one.recv()
        for mine, theirs in zip(got[1:4], expected[1:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        _same(seen, got[0], got[4], expected[0], expected[4])
        ended += int((got[2] | got[3]).sum())
        if number % 20 == 19:  # some lanes start anew, with seeds of their own or without
            mask = rng.random(lanes) < 0.5
            mask[number % lanes] = True
            seeds = rng.integers(1000, size=int(mask.sum())) if number % 40 == 19 else None
            options = {"reset_mask": mask}
            _same(seen, *ours.reset(seed=seeds, options=options), *one.reset(seed=seeds, options=options))
    assert ended >= 2
    ours.close()
    one.close()


def test_lanes_are_shared_out_and_none_is_left() -> None:
    for lanes in (1, 2, 5, 33):
        pool = Emulators("pong", lanes, Seen(lanes), **SETTINGS)
        sizes = [rows.stop - rows.start for rows in pool._rows]
        assert sum(sizes) == lanes
        assert len(sizes) == max(1, min(lanes // emulators.SMALLEST, emulators.GROUPS))
        assert max(sizes) - min(sizes) <= 1
        pool.close()


def test_what_was_returned_is_not_written_again() -> None:
    pool = Emulators("breakout", 2, Seen(2), **SETTINGS)
    frames, info = pool.reset(seed=1)
    kept = [frame.copy() for frame in frames], info["episode_frame_number"].copy()
    pool.send(np.ones(2, np.int64))
    pool.recv()
    assert all(np.array_equal(a, b) for a, b in zip(frames, kept[0], strict=True))
    np.testing.assert_array_equal(info["episode_frame_number"], kept[1])
    pool.close()
