"""What is in a dataset folder: the manifest, the shards, and the arrays of a shard.

    dataset.json                    what every state has in common (``Identity``); never rewritten
    writers/<writer>.json           who acted, and how many shards that writer has committed
    shards/<writer>-<sequence>/     one shard; it exists if and only if its shard.json does

docs/dataset.md is the full specification.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.dataset.codec import CODECS
from distill.envs.presets import check_recorded, get_preset
from distill.errors import UserError
from distill.records.seal import check_seal
from distill.records.shape import Form, check_shape, count, number, optional, text
from distill.system.files import read_json

FORMAT, VERSION = "atari-sobolev", 1
FRAMES_PER_CHUNK = 256
STACK = 4
FRAME = (84, 84)


@dataclass(frozen=True)
class Identity:
    """What must agree for two collections to share one dataset."""

    game: str
    """Canonical game name."""
    rom_md5: str
    """MD5 of the ROM."""
    preset: str
    """Preset name."""
    preset_hash: str
    """Preset hash: what the agent saw."""
    teacher: str
    """Fingerprint of the teacher that labelled every state."""
    jacobian: str
    """projected, full or none."""
    k: int
    """Rows stored per state: K, the number of actions for full, 0 for none."""
    law: str
    """Law of the stored projections."""
    space: str
    """Output whose derivative is stored; units are per pixel in [0, 1]."""
    codec: str
    """int8 or fp16."""
    teacher_preset: str = ""
    """Preset of what the teacher saw when it labelled; by default the recorded one."""
    teacher_preset_hash: str = ""
    """Its hash."""

    def __post_init__(self) -> None:
        if not self.teacher_preset:
            object.__setattr__(self, "teacher_preset", self.preset)
            object.__setattr__(self, "teacher_preset_hash", self.preset_hash)

    @property
    def same_eyes(self) -> bool:
        """True where the teacher saw the stacks that are recorded."""
        if self.teacher_preset_hash == self.preset_hash:
            return True
        return get_preset(self.teacher_preset).sees_as(get_preset(self.preset))

    def to_dict(self) -> dict[str, Any]:
        """As in ``dataset.json``; the teacher's preset only where it is another one, so that no digest ever changes."""
        fields = asdict(self)
        if (self.teacher_preset, self.teacher_preset_hash) == (self.preset, self.preset_hash):
            del fields["teacher_preset"], fields["teacher_preset_hash"]
        return fields

    def difference(self, other: Identity) -> str:
        """Human-readable list of differing fields: ``law: sphere, not fisher``."""
        mine, theirs = asdict(self), asdict(other)
        told = self.to_dict() | other.to_dict()
        return "; ".join(f"{key} is {mine[key]}, not {theirs[key]}" for key in told if mine[key] != theirs[key])

    @property
    def digest(self) -> str:
        """Of all fields, 16 hex digits: kept in every shard, so that one of another dataset is told."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


MANIFEST: Form = {
    "identity": {
        field.name if field.default is dataclasses.MISSING else f"{field.name}?": count if field.name == "k" else text
        for field in dataclasses.fields(Identity)
    },
    "teacher": {"name?": text, "tau?": optional(number)},
    "created": text,
}


@dataclass
class ShardArrays:
    """One shard in memory: n states, P frames, R derivative rows a state, A actions."""

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
    """float32 (n, K, A): projections; None for full and none."""
    jacobian: npt.NDArray[np.generic] | None = None
    """int8 or float16 (n, R, 4, 84, 84)."""
    row_scale: npt.NDArray[np.float16] | None = None
    """float16 (n, R, 4, 84)."""
    gain: npt.NDArray[np.float32] | None = None
    """float32 (n, R)."""

    def __len__(self) -> int:
        return len(self.pos)


def gather_stacks(frames: npt.NDArray[np.uint8], pos: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
    """uint8 (len(pos), 4, 84, 84): each state's stack, oldest frame first."""
    return frames[np.asarray(pos)[:, None] + np.arange(1 - STACK, 1)]


def read_identity(folder: Path) -> tuple[Identity, dict[str, Any]]:
    """Read and check ``dataset.json``.

    Returns:
        (identity, the whole manifest).

    Raises:
        UserError: no dataset there, a damaged manifest, or one of another format or version.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise UserError(f"no dataset at {folder} (it has no dataset.json); make one with `distill collect`")
    manifest = read_json(path, "dataset manifest")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of an {FORMAT} dataset")
    if manifest.get("version") != VERSION:
        raise UserError(f"{path} has format version {manifest.get('version')}; this toolkit reads version {VERSION}")
    check_seal(path, manifest, "dataset manifest")
    check_shape(path, "dataset manifest", manifest, MANIFEST)
    try:
        identity = Identity(**manifest["identity"])
    except TypeError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    for name in (identity.preset, identity.teacher_preset):
        check_recorded(folder, name)
    if identity.codec not in CODECS:
        raise UserError(f"{path} uses the unknown codec {identity.codec!r}")
    return identity, manifest


def teacher_name(folder: Path, manifest: Mapping[str, Any]) -> str:
    """What the teacher that labelled a dataset is called.

    Raises:
        UserError: the manifest does not say.
    """
    name = manifest["teacher"].get("name")
    if not name:
        raise UserError(f"{folder / 'dataset.json'} does not say which teacher labelled it; restore it from a copy")
    return str(name)
