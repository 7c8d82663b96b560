"""One whole game as an MP4, to see what a score means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.collect.actor import Actor, Policy
from distill.envs.ale_vec import AtariVec, UInt8Array
from distill.envs.presets import Preset
from distill.errors import UserError
from distill.evaluate.protocol import Protocol
from distill.files import replacing
from distill.students.nets import AtariCNN

EMULATOR_HZ = 60
MIN_WIDTH = 480


def require_video() -> Any:
    """The module that writes videos.

    Raises:
        UserError: the ``video`` extra is not installed.
    """
    try:
        import imageio.v2
        import imageio_ffmpeg  # noqa: F401  # imageio finds it by itself, but only when it is there
    except ImportError as error:
        raise UserError('videos need imageio and ffmpeg: pip install "atari-sobolev[video]"') from error
    return imageio.v2


def record_game(
    net: AtariCNN,
    game: str,
    preset: Preset,
    protocol: Protocol,
    seed: int,
    device: torch.device,
    path: Path,
    *,
    max_seconds: float = 300.0,
) -> Path:
    """Play one game and write what the emulator showed, at the speed of the console.

    The picture is in colour where the preset asks the emulator for colour (``sb3``), else it is the
    gray 84x84 frame; both are enlarged by whole pixels to at least 480 pixels of width.

    Args:
        net: the agent.
        game: canonical game name.
        preset: what the agent sees.
        protocol: sampled or greedy, sticky or not.
        seed: the first game that ``episodes.play`` gives with this seed and one lane.
        device: where the network runs.
        path: MP4 file, replaced in one piece when the game is over.
        max_seconds: a longer game is cut after this much game time, in seconds.

    Raises:
        UserError: the ``video`` extra is not installed.
    """
    imageio = require_video()
    fps = EMULATOR_HZ / preset.frame_skip
    actor = Actor(Policy(net, device), "greedy" if protocol.greedy else "sampled")
    rng = np.random.default_rng([seed, 6])
    with AtariVec(game, 1, preset, sticky=protocol.sticky) as env, replacing(path) as temporary:
        obs = env.reset(seed)
        # macro_block_size 2: H.264 wants even sizes, which _enlarge gives; more would rescale the picture.
        with imageio.get_writer(
            temporary, format="FFMPEG", codec="libx264", fps=fps, quality=7, macro_block_size=2,
            output_params=["-f", "mp4", "-movflags", "+faststart"], ffmpeg_log_level="error",
        ) as video:  # fmt: skip
            for _ in range(max(1, round(max_seconds * fps))):
                video.append_data(_enlarge(env.screens[0]))
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
