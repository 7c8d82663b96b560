"""One whole game as an MP4, to see what a score means."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from distill.agents.episodes import Match
from distill.envs.ale_vec import UInt8Array
from distill.errors import UserError, first_line
from distill.system.files import replacing
from distill.system.streams import Stream, numbered

EMULATOR_HZ = 60
MIN_WIDTH = 480


def require_video() -> Any:
    """The module that writes videos.

    Raises:
        UserError: the ``video`` extra is not installed, or its ffmpeg does not run.
    """
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError as error:
        raise UserError('videos need imageio-ffmpeg, which is not installed: pip install -e ".[video]"') from error
    except RuntimeError as error:
        raise UserError(f"videos need an ffmpeg that runs: {first_line(error)}") from error
    return imageio_ffmpeg


def record_game(match: Match, seed: int, path: Path, *, max_seconds: float = 300.0) -> Path:
    """Play one game and write what the emulator showed, at the speed of the console.

    The picture is in colour where the preset asks the emulator for colour (``sb3``), else it is the
    gray 84x84 frame; both are enlarged by whole pixels to at least 480 pixels of width.

    Args:
        match: who plays what.
        seed: the first game that ``episodes.play`` gives with this seed and one lane.
        path: MP4 file, replaced in one piece when the game is over.
        max_seconds: a longer game is cut after this much game time, in seconds.

    Raises:
        UserError: the ``video`` extra is not installed.
    """
    ffmpeg = require_video()
    fps = EMULATOR_HZ / match.preset.frame_skip
    actor = match.actor()
    rng = numbered(Stream.EVALUATION, seed, 0)
    with match.env(1) as env, replacing(path) as temporary:
        obs = env.reset(seed)
        screen = _enlarge(env.screens[0])
        height, width = screen.shape[:2]
        # Its sizes are even, as H.264 wants them; a macro block above 2 would rescale the picture.
        # The container is named because the temporary file's suffix does not tell it.
        video = ffmpeg.write_frames(
            str(temporary), (width, height), pix_fmt_in="rgb24" if screen.ndim == 3 else "gray", fps=fps,
            quality=7, macro_block_size=2, output_params=["-f", "mp4", "-movflags", "+faststart"],
        )  # fmt: skip
        with contextlib.closing(video):
            video.send(None)  # opens it
            for _ in range(max(1, round(max_seconds * fps))):
                video.send(np.ascontiguousarray(_enlarge(env.screens[0])))
                step = env.step(actor.act(obs, rng))
                if step.games:  # the screen already shows the next game
                    break
                obs = step.obs
    return path


def _enlarge(screen: UInt8Array) -> UInt8Array:
    """Repeat pixels to an even height and a width of at least ``MIN_WIDTH``."""
    factor = -(-MIN_WIDTH // screen.shape[1])
    if screen.shape[0] * factor % 2 or screen.shape[1] * factor % 2:
        factor += 1
    return screen.repeat(factor, 0).repeat(factor, 1)
