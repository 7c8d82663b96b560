"""What is in a dataset folder: the manifest, the shards, and the arrays of a shard.

    dataset.json                    what every state has in common (``Manifest``); never rewritten
    writers/<writer>.json           who acted, and how many shards that writer has committed
    shards/<writer>-<sequence>/     one shard; it exists if and only if its shard.json does

docs/dataset.md is the full specification.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.dataset.codec import CODECS
from distill.envs.presets import SIZE, STACK, check_recorded
from distill.errors import UserError
from distill.records import dataset as records
from distill.records.dataset import Manifest

FRAMES_PER_CHUNK = 256
FRAME = (SIZE, SIZE)
GAME_BITS = 40
"""Of ``Dataset.episode``, for a game's number within its writer; the writer's number is above them."""
GAME_MASK = (1 << GAME_BITS) - 1


@dataclass
class ShardArrays:
    """One shard in memory: n states, P frames, A actions; c states carry derivatives, R rows each."""

    frames: npt.NDArray[np.uint8]
    """uint8 (P, 84, 84). A stack is ``frames[pos - 3 : pos + 1]``."""
    pos: npt.NDArray[np.int64]
    """int64 (n,): index of the state's newest frame."""
    episode: npt.NDArray[np.int64]
    """int64 (n,): game number, unique within the writer."""
    t: npt.NDArray[np.int32]
    """int32 (n,): agent step within the game, scripted steps included."""
    action: npt.NDArray[np.int16]
    """int16 (n,): what the actor did."""
    reward: npt.NDArray[np.float32]
    """float32 (n,): raw reward of that step."""
    terminated: npt.NDArray[np.bool_]
    """bool (n,): the game ended with that step."""
    truncated: npt.NDArray[np.bool_]
    """bool (n,): the frame limit ended the game."""
    life_lost: npt.NDArray[np.bool_]
    """bool (n,): that step lost a life."""
    logits: npt.NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """float32 (n, A): the teacher's logits."""
    value: npt.NDArray[np.float32] | None = None
    """float32 (n,): the teacher's value, where it has one."""
    v: npt.NDArray[np.float32] | None = None
    """float32 (c, K, A): projections; None for full and none."""
    jacobian: npt.NDArray[np.generic] | None = None
    """int8 or float16 (c, R, 4, 84, 84)."""
    row_scale: npt.NDArray[np.float16] | None = None
    """float16 (c, R, 4, 84)."""
    gain: npt.NDArray[np.float32] | None = None
    """float32 (c, R)."""
    carries: npt.NDArray[np.bool_] | None = None
    """bool (n,): the c states with a row in ``v``, ``jacobian``, ``row_scale``, ``gain``; None where all have one."""

    def __len__(self) -> int:
        return len(self.pos)

    @property
    def rows(self) -> int:
        """c: states that carry derivatives, where there are any."""
        return len(self) if self.carries is None else int(self.carries.sum())


def gather_stacks(frames: npt.NDArray[np.uint8], pos: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
    """uint8 (len(pos), 4, 84, 84): each state's stack, oldest frame first."""
    return frames[np.asarray(pos)[:, None] + np.arange(1 - STACK, 1)]


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``dataset.json``.

    Raises:
        UserError: no dataset there, a damaged manifest, or one of another format, version, preset or codec.
    """
    manifest = records.read_manifest(folder / "dataset.json")
    for name in (manifest.identity.preset, manifest.identity.teacher_preset):
        check_recorded(folder, name)
    if manifest.identity.codec not in CODECS:
        raise UserError(
            f"{folder / 'dataset.json'} uses the unknown codec {manifest.identity.codec!r}; a newer version may know it"
        )
    return manifest


def teacher_name(folder: Path, manifest: Manifest) -> str:
    """What the teacher that labelled a dataset is called.

    Raises:
        UserError: the manifest does not say.
    """
    if not manifest.teacher_name:
        raise UserError(f"{folder / 'dataset.json'} does not say which teacher labelled it; restore it from a copy")
    return manifest.teacher_name
