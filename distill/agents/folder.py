"""The folder of what becomes of agents: whether all that is to be written there can be."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from distill.agents.names import PARTIAL
from distill.errors import UserError


def check_folder(folder: Path, names: Sequence[str], flag: str, *, videos: bool = False) -> None:
    """Make the folder of what becomes of agents, and see that everything can be written there.

    Args:
        folder: where scores.json or attack.json goes.
        names: of the agents, each of which gets a folder of TensorBoard events.
        flag: the setting that names the folder.
        videos: each gets a video, too.

    Raises:
        UserError: it cannot; before any work is done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp"):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write to {folder}: {reason}; choose another {flag}") from error
    if (folder / PARTIAL).is_dir():
        raise UserError(f"{folder / PARTIAL} is a folder, where games are kept while others are played; remove it")
    for name in names:
        if (folder / name).exists() and not (folder / name).is_dir():
            raise UserError(f"{folder / name} is a file, where the events of agent {name} go; rename one of them")
        video = f"{name}.mp4"
        if videos and (video in names or (folder / video).is_dir()):
            raise UserError(f"{folder / video} is a folder, where the video of agent {name} goes; rename one of them")
