"""A student on disk: weights, what they are, where they come from, and an SB3 zip.

student/model.safetensors    weights, float32
student/student.json         network, game, preset, teacher, dataset, objective, metrics
student/student.zip          the same policy for stable-baselines3's PPO.load

A network that a program builds (``NETWORKS``) is named in student.json, not described, and gets no student.zip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from distill.envs.presets import check_recorded, get_preset
from distill.errors import UserError, first_line, nearest
from distill.networks.nets import AtariCNN, NetSpec
from distill.networks.registry import NETWORKS, build_network
from distill.records.shape import Form, check_shape, count, number, optional, text
from distill.system.files import at_home, read_json, sha256, write_bytes, write_json
from distill.system.registry import is_dotted
from teachers.protocol import Teacher, fingerprint

NAMED: Form = {"game": text, "preset": text, "preset_hash": text}
"""What is needed of student.json wherever a student is used, and ..."""
PAPERS: Form = {
    "student": text,
    "teacher": text,
    "dataset": {"folder": text, "created": text, "states": count, "digest?": text, "train?": text, "held?": text},
    "objective": {"temperature": number, "jacobian_weight": number},
    "seed": count,
    "val_fraction": number,
    "best_step": count,
    "metrics": {"val_kl": number, "val_action_error": number, "*": optional(number)},
    "teacher_tau?": optional(number),
}
"""... where its training matters."""


@dataclass
class Student:
    """A trained student and its papers."""

    net: nn.Module
    """The network, in eval mode: float pixels in [0, 1], (B, 4, 84, 84), to logits (B, A)."""
    facts: dict[str, Any]
    """What student.json says."""
    folder: Path
    """Where it was read from."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over parameter names, shapes and values."""
        return str(self.facts["fingerprint"])

    @property
    def num_actions(self) -> int:
        """Width of its output."""
        return int(self.facts["num_actions"])

    @property
    def is_described(self) -> bool:
        """True where student.json describes its layers; else it names a program that builds them."""
        return "net" in self.facts

    def is_like(self, net: nn.Module, name: str, num_actions: int) -> bool:
        """True where its weights fit ``net``, a network called ``name``."""
        if self.num_actions != num_actions:
            return False
        if isinstance(net, AtariCNN):
            return isinstance(self.net, AtariCNN) and self.net.spec == net.spec
        return self.facts.get("network") == name

    def check_papers(self) -> None:
        """Refuse a student whose papers do not say how it was trained and what came of it."""
        check_shape(self.folder / "student.json", "student description", self.facts, PAPERS)

    def check_fits(self, game: str, teacher: Teacher, recorded: str | None = None) -> None:
        """Refuse a student of another game, preset or number of actions.

        Args:
            game: to play.
            teacher: who labels.
            recorded: preset that is recorded; by default the teacher's.
        """
        preset = get_preset(recorded or teacher.info.preset)
        seen = f"{self.facts['preset']} ({self.facts['preset_hash']})"
        for what, mine, theirs in (
            ("game", self.facts["game"], game),
            ("preset", seen, f"{preset.name} ({preset.hash})"),
            ("number of actions", self.num_actions, teacher.info.num_actions),
        ):
            if mine != theirs:
                raise UserError(f"student {self.folder} has {what} {mine}, but {theirs} was asked for")


def save_student(
    folder: Path, net: nn.Module, facts: dict[str, Any], network: str | None = None, num_actions: int | None = None
) -> None:
    """Write a student folder; student.json comes last, so a folder that has it is complete.

    Args:
        folder: created if need be.
        net: the trained network.
        facts: game, preset, preset_hash, teacher, dataset, objective and metrics.
        network: of another network than an ``AtariCNN``, the name that ``build_network`` builds it by.
        num_actions: width of its output, likewise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Copies, since safetensors refuses tensors that share memory.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in net.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(state))
    files = ["model.safetensors"]
    if isinstance(net, AtariCNN):
        from distill.students.sb3 import save_sb3_zip

        save_sb3_zip(net, folder / "student.zip", {name: facts.get(name) for name in ("game", "preset", "preset_hash")})
        files.append("student.zip")
        described: dict[str, Any] = {"net": net.spec.to_dict(), "num_actions": net.num_actions}
    else:
        assert network is not None
        described = {"network": network, "num_actions": num_actions}
    described["fingerprint"] = fingerprint(state)
    described["sha256"] = {name: sha256(folder / name) for name in files}
    write_json(folder / "student.json", {**described, **facts})


def is_student(path: Path) -> bool:
    """True for a run folder or student folder with a finished student."""
    return (path / "student.json").is_file() or (path / "student" / "student.json").is_file()


def load_student(path: str | Path) -> Student:
    """Load a student from its run folder or student folder.

    Raises:
        UserError: nothing there, unfinished, or damaged.
    """
    folder = at_home(path)
    if (folder / "student").is_dir():
        folder = folder / "student"
    if not (folder / "student.json").is_file():
        raise UserError(f"no finished student at {path}; train one with `distill train`, or resume its run")
    facts = read_json(folder / "student.json", "student description")
    check_shape(folder / "student.json", "student description", facts, NAMED)
    check_recorded(folder, facts["preset"])
    try:
        net = _build(folder, facts)
        state = load((folder / "model.safetensors").read_bytes())
        net.load_state_dict(state)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged ({first_line(error)}); train the student again") from error
    if fingerprint(state) != facts.get("fingerprint"):
        raise UserError(f"{folder}/model.safetensors does not match student.json; it is damaged")
    net.eval()
    return Student(net, facts, folder)


def _build(folder: Path, facts: dict[str, Any]) -> nn.Module:
    if "net" in facts:
        return AtariCNN(NetSpec.from_dict(facts["net"]), int(facts["num_actions"]))
    name = str(facts["network"])
    if not is_dotted(name) and name not in NETWORKS:
        raise UserError(
            f"{folder} is of network {name!r}, which is not registered here{nearest(name, NETWORKS)}; import the "
            "package that registers it, on the command line by DISTILL_PLUGINS=its_name (docs/concepts.md)"
        )
    try:
        return build_network(name, int(facts["num_actions"]))
    except UserError as error:
        raise UserError(f"{folder} is of a network that is not here: {error}") from error
