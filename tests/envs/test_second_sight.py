"""A second stack of the same screens is what an agent of the other preset would have seen of that game."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from distill.envs.ale_vec import AtariVec
from distill.envs.presets import Preset, get_preset
from distill.envs.second_sight import SecondSight
from distill.errors import UserError

SB3, FAST, ASYNC = (get_preset(name) for name in ("sb3", "sb3-fast", "async-rl"))
PIXELS = {"resize": "linear", "luma": "async-rl"}


def seeds() -> Any:
    """Seeds of games that follow, in the order in which they are asked for."""
    drawn = iter(range(100, 1000))
    return lambda lane: next(drawn)


@pytest.mark.parametrize(
    ("game", "recorded"),
    [
        ("breakout", SB3),  # FIRE, and a script after each lost life
        ("space_invaders", SB3),  # FIRE is an action there, too
        ("asterix", SB3),  # no FIRE: the script is one NOOP
        ("breakout", replace(SB3, life_loss_reset=False)),
        ("asterix", replace(SB3, life_loss_reset=False, fire_reset=False, noop_min=0)),
    ],
)
@pytest.mark.parametrize("pixels", [PIXELS, {"resize_first": True, "padding_type": "reset"}])
def test_it_is_what_the_other_preset_sees_of_the_same_game(game: str, recorded: Preset, pixels: dict[str, Any]) -> None:
    """Presets that differ in pixels only play the same game, so each step can be compared."""
    other = replace(recorded, **pixels)
    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"sticky": 0.25}
    lost = ended = differs = 0
    with (
        AtariVec(game, 3, recorded, second=other, next_seed=seeds(), **settings) as vec,
        AtariVec(game, 3, other, next_seed=seeds(), **settings) as alone,
    ):
        vec.reset(5)
        np.testing.assert_array_equal(vec.second_obs, alone.reset(5))
        while ended < 4 or lost < 8:
            actions = rng.integers(vec.num_actions, size=3)
            step, want = vec.step(actions), alone.step(actions)
            np.testing.assert_array_equal(step.acting, want.acting)
            np.testing.assert_array_equal(vec.second_obs, want.obs)
            lost, ended = lost + int(step.life_lost.sum()), ended + len(step.games)
            differs += not np.array_equal(step.obs, want.obs)
    assert differs > 100


def plain(screen: np.ndarray) -> np.ndarray:
    """As muupan/async-rl writes it."""
    gray = (screen[:, :, 0] * 0.2126 + screen[:, :, 1] * 0.0722 + screen[:, :, 2] * 0.7152).astype(np.uint8)
    return cv2.resize(gray, (84, 84), interpolation=cv2.INTER_LINEAR)


def test_async_rls_eyes_see_scripts_and_lost_lives_go_by() -> None:
    """Its stacks are plain OpenCV's frames of the last four screens; only a new game begins them anew."""
    rng = np.random.default_rng(1)
    with AtariVec("breakout", 2, SB3, second=ASYNC) as vec:
        vec.reset(3)
        assert vec.second_obs is not None
        # The first frame, that after FIRE and that after action 2: zeros before them, none within.
        np.testing.assert_array_equal(vec.second_obs.any((2, 3)), [[False, True, True, True]] * 2)
        want = vec.second_obs.copy()
        lost = ended = scripted = 0
        while ended < 3:
            step = vec.step(rng.integers(4, size=2))
            want = np.concatenate([want[:, 1:], np.stack([plain(screen) for screen in vec.screens])[:, None]], 1)
            want[step.terminated | step.truncated, :-1] = 0
            np.testing.assert_array_equal(vec.second_obs, want)
            lost, ended = lost + int(step.life_lost.sum()), ended + len(step.games)
            scripted += int((~step.acting).sum())
            seen = step.fresh & (vec.played > 3)  # a lost life: zeros for the one, four frames for the other
            assert not step.obs[seen, :-1].any()
            assert vec.second_obs[seen].any((2, 3)).all()
    assert lost >= 10
    assert scripted >= 20


def test_sb3s_eyes_begin_anew_after_a_lost_life_that_nobody_scripts() -> None:
    """Recorded is async-rl, which plays no script, so the step that lost the life gives the first frame."""
    rng = np.random.default_rng(2)
    with AtariVec("breakout", 2, ASYNC, second=SB3) as vec:
        vec.reset(3)
        lost = ended = 0
        first = np.ones(2, bool)
        while ended < 2:
            step = vec.step(rng.integers(4, size=2))
            assert vec.second_obs is not None
            anew = step.life_lost | step.terminated | step.truncated
            np.testing.assert_array_equal(vec.second_obs[:, :-1].any((1, 2, 3)), ~anew)
            assert vec.second_obs[:, -1].any((1, 2)).all()
            if not first.any():
                assert step.obs[step.life_lost, :-1].any((1, 2, 3)).all()
            first = step.terminated | step.truncated
            lost, ended = lost + int(step.life_lost.sum()), ended + len(step.games)
    assert lost >= 6


def test_without_a_second_preset_there_are_no_second_stacks() -> None:
    with AtariVec("pong", 1, SB3) as vec:
        vec.reset(0)
        assert vec.second_obs is None


@pytest.mark.parametrize(
    ("preset", "recorded", "message"),
    [
        (SB3, FAST, r"preset sb3 sees colour screens, and preset sb3-fast has only screens that were gray"),
        (ASYNC, FAST, r"preset async-rl sees colour screens, .* say with --teacher_preset=sb3-fast"),
        (
            FAST,
            SB3,
            r"preset sb3-fast sees screens that were gray before their maximum, and preset sb3 has only colour",
        ),
    ],
)
def test_screens_that_the_emulator_does_not_give_are_refused(preset: Preset, recorded: Preset, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        AtariVec("pong", 1, recorded, second=preset)
    assert "\n" not in str(error.value)


def test_gray_screens_do_for_eyes_that_differ_in_lives_alone() -> None:
    recorded = replace(FAST, life_loss_reset=False)
    rng = np.random.default_rng(3)
    with AtariVec("breakout", 1, recorded, second=FAST) as vec:
        vec.reset(0)
        lost = 0
        while lost < 3:
            step = vec.step(rng.integers(4, size=1))
            assert vec.second_obs is not None
            np.testing.assert_array_equal(step.obs[:, -1], vec.second_obs[:, -1])
            assert vec.second_obs[0, :-1].any() != (step.life_lost[0] or step.fresh[0])
            lost += int(step.life_lost[0])


def test_begins_with_zeros_however_often_it_begins() -> None:
    sight = SecondSight(SB3, SB3, 1, has_fire=True)
    screen = np.full((1, 1, 210, 160, 3), 200, np.uint8)
    for _ in range(2):
        sight.prepare(0, screen)
        sight.begin(np.array([True]))
        np.testing.assert_array_equal(sight.stacks.any((2, 3)), [[False, False, False, True]])
        none = np.zeros(1, bool)
        sight.shift()
        sight.take(none, none, np.array([True]))
        np.testing.assert_array_equal(sight.stacks.any((2, 3)), [[False, False, True, True]])
