"""CleanRL's agents see what its own wrappers show, frame by frame."""

from __future__ import annotations

from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.wrappers import GrayscaleObservation

from distill.envs.ale_vec import AtariVec
from distill.envs.presets import get_preset
from tests.envs.reference import CleanrlLane, compare, differences


class OpenCVsGray(gym.ObservationWrapper[Any, Any, Any]):
    """GrayScaleObservation of Gymnasium 0.29, which CleanRL pins."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 255, env.observation_space.shape[:2], np.uint8)

    def observation(self, observation: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return cv2.cvtColor(observation, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("game", "steps", "lives", "games"),
    [
        pytest.param("breakout", 1200, 40, 10, id="breakout: five lives, FIRE"),
        pytest.param("asterix", 1200, 16, 5, id="asterix: lives, no FIRE"),
        pytest.param("pong", 1000, 0, 1, id="pong: no lives, FIRE, overlapping colours"),
        pytest.param("pooyan", 600, 1, 0, id="pooyan: 220 lines"),
    ],
)
@pytest.mark.parametrize(("preset", "gray"), [("cleanrl", OpenCVsGray), ("cleanrl-gymnasium1", GrayscaleObservation)])
def test_equals_cleanrls_own_wrappers(preset: str, gray: Any, game: str, steps: int, lives: int, games: int) -> None:
    count = compare(game, 2, steps, 1, get_preset(preset), CleanrlLane, gray=gray)
    assert differences(count) == {}
    assert count["steps"] > 1.8 * steps
    assert count["lives"] >= lives
    assert count["games"] >= games


def test_the_two_grays_and_the_order_of_resize_matter() -> None:
    seen = []
    for name in ("sb3", "cleanrl", "cleanrl-gymnasium1"):
        with AtariVec("breakout", 1, get_preset(name)) as vec:
            vec.reset(1)
            for _ in range(20):
                vec.step(np.ones(1, np.int64))
            seen.append(vec._stack[0, -1].astype(int))
    sb3, cleanrl, gymnasium1 = seen
    assert 0 < abs(sb3 - cleanrl).max() <= 2
    assert abs(cleanrl - gymnasium1).max() > 0


def test_a_stack_begins_with_its_first_frame_four_times() -> None:
    with AtariVec("breakout", 2, get_preset("cleanrl")) as vec:
        obs = vec.reset(3)
        fresh = 0
        np.testing.assert_array_equal(obs, obs[:, -1:].repeat(4, 1))
        for _ in range(300):
            step = vec.step(np.ones(2, np.int64))
            first = step.obs[step.fresh]
            np.testing.assert_array_equal(first, first[:, -1:].repeat(4, 1))
            fresh += len(first)
    assert fresh > 10
