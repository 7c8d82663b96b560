from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import ale_py
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from ale_py import roms

from distill.envs.ale_vec import AtariVec
from distill.envs.frames import converter, to_gray
from distill.envs.presets import Luma, Resize, get_preset

SB3 = get_preset("sb3")
Frame = npt.NDArray[np.uint8]


@pytest.fixture(params=["breakout", "pong", "space_invaders", "pooyan", "air_raid"])
def screens(request: pytest.FixtureRequest) -> tuple[str, list[Frame]]:
    """Maxima of two successive colour screens, by plain ALE. Air Raid has 250 lines, Pooyan 220."""
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(request.param))
    rng, found = np.random.default_rng(0), []
    actions = ale.getMinimalActionSet()
    for _ in range(60):
        two = []
        for _ in range(2):
            ale.act(actions[rng.integers(len(actions))])
            two.append(ale.getScreenRGB())
        found.append(np.maximum(*two))
        if ale.game_over():
            ale.reset_game()
    return request.param, found


def plain_gray(screen: Frame, luma: Luma) -> Frame:
    """As the programs whose agents are read here write it."""
    if luma == "bt601":
        return cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]
    if luma == "gymnasium":
        return np.sum(np.multiply(screen, np.array([0.2125, 0.7154, 0.0721])), axis=-1).astype(np.uint8)  # type: ignore[no-any-return]
    if luma == "bt709":
        return (screen[:, :, 0] * 0.2126 + screen[:, :, 1] * 0.7152 + screen[:, :, 2] * 0.0722).astype(np.uint8)
    return (screen[:, :, 0] * 0.2126 + screen[:, :, 1] * 0.0722 + screen[:, :, 2] * 0.7152).astype(np.uint8)


def plain(screen: Frame, resize: Resize, luma: Luma, resize_first: bool = False) -> Frame:
    def resized(image: Frame) -> Frame:
        how = cv2.INTER_AREA if resize == "area" else cv2.INTER_LINEAR
        return cv2.resize(image, (84, 84), interpolation=how)  # type: ignore[return-value]

    return plain_gray(resized(screen), luma) if resize_first else resized(plain_gray(screen, luma))


@pytest.mark.parametrize("luma", get_args(Luma))
@pytest.mark.parametrize("resize", get_args(Resize))
@pytest.mark.parametrize("resize_first", [False, True])
def test_frames_are_plain_opencvs_pixel_by_pixel(
    screens: tuple[str, list[Frame]], resize: Resize, luma: Luma, resize_first: bool
) -> None:
    game, found = screens
    assert found[0].shape[0] == {"air_raid": 250, "pooyan": 220}.get(game, 210)
    convert = converter(replace(SB3, resize=resize, luma=luma, resize_first=resize_first))
    out = np.empty((84, 84), np.uint8)
    for screen in found:
        convert(screen, out)
        np.testing.assert_array_equal(out, plain(screen, resize, luma, resize_first))


@pytest.mark.parametrize("preset", [{"resize": "linear"}, {"luma": "bt709"}, {"resize": "linear", "luma": "async-rl"}])
@pytest.mark.parametrize("game", ["breakout", "air_raid"])
def test_stacks_hold_the_frames_of_the_screens(game: str, preset: dict[str, Any]) -> None:
    chosen = replace(SB3, **preset)
    rng = np.random.default_rng(1)
    with AtariVec(game, 3, chosen) as vec:
        vec.reset(2)
        differs = 0
        for _ in range(80):
            step = vec.step(rng.integers(vec.num_actions, size=3))
            for lane, screen in enumerate(vec.screens):
                np.testing.assert_array_equal(step.obs[lane, -1], plain(screen, chosen.resize, chosen.luma))
                differs += not np.array_equal(step.obs[lane, -1], plain(screen, "area", "bt601"))
    assert differs > 200


@pytest.fixture
def threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("resize", ["area", "linear"])
def test_frames_do_not_depend_on_opencvs_threads(screens: tuple[str, list[Frame]], resize: Resize) -> None:
    convert, frames = converter(replace(SB3, resize=resize)), []
    for count in (1, 2, 7):
        cv2.setNumThreads(count)
        out = np.empty((60, 84, 84), np.uint8)
        for screen, into in zip(screens[1], out, strict=True):
            convert(screen, into)
        frames.append(out)
    assert all(np.array_equal(frames[0], other) for other in frames[1:])


def test_sums_are_cut_off_in_double_precision() -> None:
    gray = np.repeat(np.array([[56, 142, 255]], np.uint8)[..., None], 3, -1)
    assert to_gray(gray, "async-rl").tolist() == [[55, 142, 254]]
    colours = np.array([[[200, 0, 0], [0, 200, 0], [0, 0, 200]]], np.uint8)
    assert to_gray(colours, "bt709").tolist() == [[42, 143, 14]]
    assert to_gray(colours, "async-rl").tolist() == [[42, 14, 143]]
    assert to_gray(colours, "bt601").tolist() == [[60, 117, 23]]


def test_async_rl_starts_with_0_to_30_noops_and_plays_no_script() -> None:
    with AtariVec("breakout", 8, replace(get_preset("async-rl"), max_frames=4)) as vec:
        drawn = set()
        recv = vec._ale.recv

        def watch() -> Any:
            result = recv()
            drawn.update((result[4]["episode_frame_number"] - vec.info.start_frames).tolist())
            return result

        vec._ale.recv = watch
        vec.reset(0)
        for _ in range(60):
            step = vec.step(np.zeros(8, np.int64))
            assert step.acting.all()
            assert not step.obs[:, :-1].any()  # a new game's stack starts with zeros
    assert drawn == set(range(31))
