"""student.json: what a student is, how it was trained, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import UserError, first_line
from distill.networks.nets import NetSpec
from distill.records.data import USED, DataUsed, OwnGames, data_told
from distill.records.record import Kind
from distill.records.shape import Form, check_shape, count, number, optional, text
from distill.task import Task

STUDENT = Kind("student description", {"game": text, "preset": text, "preset_hash": text}, version=2, sealed_since=2)
"""What is needed of student.json wherever a student is used, and ..."""
TRAINING: Form = {
    "student": text,
    "teacher": text,
    "teacher_name?": optional(text),
    "teacher_tau?": optional(number),
    "teacher_preset?": text,
    "teacher_preset_hash?": text,
    "dataset": USED,
    "objective": {"temperature": number, "jacobian_weight": number},
    "learning_rate?": optional(number),
    "early_learning_rate?": optional(number),
    "jacobian_scale": number,
    "seed": count,
    "val_fraction": number,
    "steps": count,
    "best_step": count,
    "train_seconds": number,
    "metrics": {"val_kl": optional(number), "val_action_error": optional(number), "*": optional(number)},
    "adversary?": lambda value: value is None or isinstance(value, dict),
}
"""... where its training matters."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a student was trained and what came of it.

    What has a default is of offline training with derivatives; ``TeacherInfo.told`` gives what is of the teacher.
    """

    student: str
    """Name of its network."""
    teacher: str
    """Fingerprint of whom it learned from; empty where nobody is known (reward alone, no teacher to compare with)."""
    teacher_name: str | None
    """What the user called that."""
    teacher_tau: float | None
    """Its temperature of Q-values, where it has one."""
    teacher_preset: str
    """Preset of what it saw."""
    teacher_preset_hash: str
    """Its hash."""
    data: DataUsed | OwnGames
    """What it learned from; ``dataset`` in the file."""
    objective: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 1.0, "jacobian_weight": 0.0})
    """Settings of the objective, by their names on the command line."""
    learning_rate: float | None = None
    """Adam's peak; None where an earlier version did not say."""
    early_learning_rate: float | None = None
    """That while lambda is large, where it is another one."""
    jacobian_scale: float = 1.0
    """s, the teacher's mean square derivative; 1 where none were used."""
    seed: int
    """Of the run."""
    val_fraction: float = 0.0
    """Share of games that was held out."""
    steps: int
    """Optimizer steps done."""
    best_step: int
    """Step whose weights these are."""
    train_seconds: float
    """Training time."""
    metrics: Mapping[str, float | None]
    """Figures on held-out games, ``val_kl`` and so on; of ``OwnGames`` on states of these; None: not measured."""
    adversary: Mapping[str, Any] | None = None
    """The attack on its training states; None without one, and where an earlier version did not say."""

    @property
    def temperature(self) -> float:
        """The teacher's logits were divided by it."""
        return float(self.objective["temperature"])

    @property
    def jacobian_weight(self) -> float:
        """λ; 0 for a student that learned from no derivatives."""
        return float(self.objective["jacobian_weight"])

    def to_dict(self) -> dict[str, Any]:
        """As in student.json, which has no word of an adversary where there was none."""
        return {("dataset" if name == "data" else name): (value.to_dict() if name == "data" else value)
                for name, value in vars(self).items() if name != "adversary" or value is not None}  # fmt: skip


@dataclass(frozen=True)
class StudentRecord:
    """What student.json says."""

    task: Task
    """What the student plays and sees."""
    network: NetSpec | str
    """Its layers, ``net`` in the file; or the name of a program that builds it."""
    fingerprint: str
    """SHA-256 over parameter names, shapes and values."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Checksums of the files beside it; students of earlier versions have none."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What stands there of its training: ``training`` reads it."""

    @property
    def is_trained(self) -> bool:
        """False where nothing tells how: a program saved it without."""
        return any(name in self.told for name in ("teacher", "dataset", "objective"))

    def training(self, path: Path) -> Training:
        """How it was trained.

        Raises:
            UserError: ``path``, where this was read from, does not say.
        """
        if not self.is_trained:
            raise UserError(f"{path} does not say how the student was trained; it can only teach, act or be exported")
        check_shape(path, STUDENT.what, self.told, TRAINING)
        told: dict[str, Any] = {name: self.told.get(name) for name in Training.__dataclass_fields__}
        told["data"] = data_told(self.told["dataset"])
        told["teacher_preset"] = told["teacher_preset"] or self.task.preset
        told["teacher_preset_hash"] = told["teacher_preset_hash"] or self.task.preset_hash
        return Training(**told)

    def to_dict(self) -> dict[str, Any]:
        """As in student.json."""
        return {
            **({"net": self.network.to_dict()} if isinstance(self.network, NetSpec) else {"network": self.network}),
            "num_actions": self.task.num_actions,
            "fingerprint": self.fingerprint,
            "sha256": dict(self.sha256),
            "game": self.task.game,
            "preset": self.task.preset,
            "preset_hash": self.task.preset_hash,
            **self.told,
        }


def read_student(path: Path) -> StudentRecord:
    """Content of a student.json.

    Raises:
        UserError: it is of a newer version, damaged, or describes no network.
    """
    told = STUDENT.read(path)
    try:
        task = Task(told["game"], told["preset"], told["preset_hash"], int(told["num_actions"]))
        network = NetSpec.from_dict(told["net"]) if "net" in told else str(told["network"])
        sums = told.get("sha256")
        marks = {str(name): str(mark) for name, mark in sums.items()} if isinstance(sums, dict) else {}
        return StudentRecord(task, network, str(told.get("fingerprint")), marks, told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path.parent} is damaged ({first_line(error)}); train the student again") from error


def write_student(path: Path, record: StudentRecord) -> None:
    """Write a student.json, atomically and durably."""
    STUDENT.write(path, record.to_dict())
