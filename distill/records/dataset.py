"""A dataset's records: dataset.json, writers/<writer>.json and a shard's shard.json (docs/dataset.md)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.records.record import Kind
from distill.records.shape import Form, count, number, optional, text
from distill.system.files import read_json
from distill.system.stores import is_inside

FORMAT = "atari-sobolev"
OF_ALL, OF_SOME = 1, 2
"""Versions of dataset.json: all states carry derivatives, or all do not; and only a share of them does."""


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
    jacobian_share: float = 1.0
    """Share of the states that carry derivatives."""

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
        """As in ``dataset.json``: without what has its old meaning (the teacher's preset is the recorded one, and all
        states carry derivatives), so that no digest ever changes.
        """
        fields = asdict(self)
        if (self.teacher_preset, self.teacher_preset_hash) == (self.preset, self.preset_hash):
            del fields["teacher_preset"], fields["teacher_preset_hash"]
        if self.jacobian_share == 1:
            del fields["jacobian_share"]
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


NUMBERS = {"k": count, "jacobian_share": number}
MANIFEST = Kind(
    "dataset manifest",
    {
        "identity": {
            field.name if field.default is dataclasses.MISSING else f"{field.name}?": NUMBERS.get(field.name, text)
            for field in dataclasses.fields(Identity)
        },
        "teacher": {"name?": text, "tau?": optional(number)},
        "created": text,
    },
    version=OF_SOME,
)
WRITER = Kind("writer record", {"shards": count, "states?": count, "behaviour?": {}, "command?": text})
FILE: Form = {"bytes": count, "sha256": text}
SHARD_FIELDS: dict[str, Form] = {
    "states": count,
    "frames": count,
    "files": {"steps.safetensors": FILE, "*": FILE},
    "next_episode": count,
    "jacobian_square_sum": number,
    "games?": [{"score": number, "length?": count}],
    "play?": optional(text),
    "identity?": text,
    "seed?": optional(count),
    "carrying?": count,
}
SHARD = Kind("shard record", SHARD_FIELDS)


@dataclass(frozen=True)
class Manifest:
    """What dataset.json says; it is never rewritten."""

    identity: Identity
    """What every state has in common."""
    teacher: Mapping[str, Any]
    """Description of the teacher, for people."""
    created: str
    """When its first writer made it, ISO 8601."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Of what made it."""

    @property
    def teacher_name(self) -> str | None:
        """What the user called the teacher."""
        return self.teacher.get("name")

    @property
    def teacher_tau(self) -> float | None:
        """Its temperature of Q-values, where it has one."""
        return self.teacher.get("tau")


@dataclass(frozen=True)
class WriterRecord:
    """What a writer has done."""

    shards: int
    """Committed shards."""
    states: int
    """States in them."""
    behaviour: Mapping[str, Any]
    """Who acts and how."""
    command: str | None
    """That made it; earlier versions do not tell."""


@dataclass(frozen=True)
class GamePlayed:
    """A game that ended in a shard."""

    score: float
    """Raw return."""
    length: int = 0
    """Agent steps; 0 in shards of earlier versions, which do not tell."""


@dataclass(frozen=True)
class FileMark:
    """What a file of a shard must be."""

    bytes: int
    """Its size."""
    sha256: str
    """Of its content."""


@dataclass(frozen=True)
class Played:
    """What a shard's record says beside its arrays."""

    next_episode: int
    """Number of the writer's next game."""
    jacobian_square_sum: float
    """Sum over states that carry derivatives of the mean over rows of ||J^T v||^2."""
    games: Sequence[GamePlayed] = ()
    """Games that ended in it."""
    seed: int | None = None
    """Of the collection."""


@dataclass(frozen=True)
class ShardRecord(Played):
    """What shard.json says."""

    states: int = 0
    """In the shard."""
    frames: int = 0
    """In the shard."""
    files: Mapping[str, FileMark] = field(default_factory=dict)
    """By name."""
    play: str | None = None
    """Digest of what was played (``play_digest``); None for few states, and in earlier versions."""
    identity: str | None = None
    """Digest of the dataset's identity; None in earlier versions."""
    carrying: int | None = None
    """States in the shard that carry derivatives; None where the dataset has no share of them."""

    @property
    def rows(self) -> int:
        """States with a row in the arrays of derivatives."""
        return self.states if self.carrying is None else self.carrying

    def to_dict(self) -> dict[str, Any]:
        """As in shard.json."""
        newer = ("identity", "carrying")
        told = {name: value for name, value in asdict(self).items() if name not in newer or value is not None}
        return {**told, "games": [asdict(game) for game in self.games]}


def read_manifest(path: Path) -> Manifest:
    """Content of a dataset.json.

    Raises:
        UserError: no such file, a damaged one, or one of another format or version.
    """
    if not path.is_file():
        raise UserError(f"no dataset at {path.parent} (it has no dataset.json); make one with `distill collect`")
    content = read_json(path, MANIFEST.what)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of an {FORMAT} dataset; name another folder, or restore it")
    content = MANIFEST.checked(path, content)
    try:
        identity = Identity(**content["identity"])
    except TypeError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not 0 < identity.jacobian_share <= 1:
        raise UserError(
            f"{path} is damaged: its jacobian_share is {identity.jacobian_share}, not above 0 and at most 1"
        )
    return Manifest(identity, content["teacher"], content["created"], content.get("versions", {}))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a dataset.json, atomically and durably."""
    MANIFEST.write(
        path,
        {
            "format": FORMAT,
            "identity": manifest.identity.to_dict(),
            "teacher": dict(manifest.teacher),
            "units": f"d {manifest.identity.space} / d pixel, pixels in [0, 1]",
            "created": manifest.created,
            "versions": dict(manifest.versions),
        },
        OF_ALL if manifest.identity.jacobian_share == 1 else OF_SOME,
    )


def read_writer(path: Path) -> WriterRecord:
    """Content of a writer's record.

    Raises:
        UserError: it is damaged, or of a newer version.
    """
    told = WRITER.read(path, "shards")
    return WriterRecord(told["shards"], told.get("states", 0), told.get("behaviour", {}), told.get("command"))


def write_writer(path: Path, record: WriterRecord) -> None:
    """Write a writer's record, atomically and durably."""
    WRITER.write(path, asdict(record))


def read_shard(path: Path) -> ShardRecord:
    """Content of a shard.json.

    Raises:
        UserError: it is damaged, or of a newer version.
    """
    told = SHARD.read(path, *(name for name in SHARD_FIELDS if not name.endswith("?")))
    fields = {name: told[name] for name in ShardRecord.__dataclass_fields__ if name in told}
    for name in told["files"]:
        if not is_inside(name):
            raise UserError(f"{path} is damaged: a file of a shard cannot be called {name!r}; restore it from a copy")
    fields["files"] = {name: FileMark(mark["bytes"], mark["sha256"]) for name, mark in told["files"].items()}
    fields["games"] = [GamePlayed(game["score"], game.get("length", 0)) for game in told.get("games", [])]
    return ShardRecord(**fields)


def write_shard(path: Path, record: ShardRecord) -> None:
    """Write a shard.json, atomically and durably."""
    SHARD.write(path, record.to_dict())
