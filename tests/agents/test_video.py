from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.agents.episodes import Match, play
from distill.agents.video import record_game
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import get_preset
from distill.envs.protocols import get_protocol
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
CPU = torch.device("cpu")
ZOO = get_protocol("zoo")


def agent(actions: int) -> AtariCNN:
    torch.manual_seed(0)
    return AtariCNN(NetSpec(((4, 8, 4),), (16,)), actions)


def decoded(path: Path) -> tuple[dict[str, object], np.ndarray]:
    """Metadata and RGB frames (N, H, W, 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


@pytest.mark.parametrize(("preset", "size"), [("sb3", (480, 630)), ("sb3-fast", (504, 504))])
def test_a_cut_game_shows_what_the_emulator_shows(preset: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "new" / "pong.mp4"
    assert record_game(Match(agent(6), "pong", get_preset(preset), ZOO, CPU), 3, path, max_seconds=2) == path
    meta, frames = decoded(path)
    assert meta["fps"] == 15
    assert meta["size"] == size
    assert meta["codec"] == "h264"
    assert len(frames) == 30
    with AtariVec("pong", 1, get_preset(preset)) as env:
        env.reset(3)
        screen = env.screens[0].astype(int)
    screen = screen if screen.ndim == 3 else screen[..., None]
    factor = size[1] // screen.shape[0]
    middle = frames[0, factor // 2 :: factor, factor // 2 :: factor].astype(int)
    assert np.abs(middle - screen).mean() < 8  # what H.264 and its colours lose
    assert frames.std(0).max() > 20, "nothing moves"
    assert [item.name for item in path.parent.iterdir()] == ["pong.mp4"]


def test_a_whole_game_is_the_one_that_evaluation_plays(tmp_path: Path) -> None:
    net, preset = agent(4), get_preset("sb3")
    match = Match(net, "breakout", preset, ZOO, CPU)
    (game,) = play(match, games=1, num_envs=1, seed=5)
    record_game(match, 5, tmp_path / "game.mp4")
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "game.mp4"))
    assert frames == game.length - 2  # FIRE and action 2 come before the first choice
    assert seconds == pytest.approx(frames / 15, abs=0.1)


def test_a_failure_leaves_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "pong.mp4"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"actions must be in 0\.\.5"):
        record_game(Match(agent(18), "pong", get_preset("sb3"), ZOO, CPU), 1, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_extra_the_user_is_told_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[video\]"'):
        record_game(Match(agent(6), "pong", get_preset("sb3"), ZOO, CPU), 1, tmp_path / "pong.mp4")
    assert list(tmp_path.iterdir()) == []
