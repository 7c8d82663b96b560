"""A student on disk: weights, what they are, where they come from, and an SB3 zip.

student/model.safetensors    weights, float32
student/student.json         network, game, preset, teacher, dataset, objective, metrics
student/student.zip          the same policy for stable-baselines3's PPO.load

A network that a program builds (``NETWORKS``) is named in student.json, not described, and gets no student.zip.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from distill.envs.presets import check_recorded
from distill.errors import UserError, first_line, nearest
from distill.networks.nets import AtariCNN, NetSpec, described
from distill.networks.registry import NETWORKS, build_network
from distill.networks.weights import fingerprint
from distill.records.student import StudentRecord, Training, read_student, write_student
from distill.system.files import at_home, sha256, write_bytes
from distill.system.registry import is_dotted
from distill.task import Task


@dataclass
class Student:
    """A trained student and its papers."""

    net: nn.Module
    """The network, in eval mode: float pixels in [0, 1], (B, 4, 84, 84), to logits (B, A)."""
    record: StudentRecord
    """What student.json says."""
    folder: Path
    """Where it was read from."""

    @property
    def task(self) -> Task:
        """What it plays and sees."""
        return self.record.task

    @property
    def fingerprint(self) -> str:
        """SHA-256 over parameter names, shapes and values; of noise in training only it says that, too.

        The same weights with their noise at play are another agent.
        """
        network, weights = self.record.network, self.record.fingerprint
        if isinstance(network, str) or network.noise is None or network.noise_at_play:
            return weights
        return hashlib.sha256(f"{weights}, noise in training only".encode()).hexdigest()

    @property
    def is_described(self) -> bool:
        """True where student.json describes its layers; else it names a program that builds them."""
        return isinstance(self.record.network, NetSpec)

    def is_like(self, net: nn.Module, name: str) -> bool:
        """True where its weights fit ``net``, a network of as many actions called ``name``."""
        network = self.record.network
        if isinstance(network, NetSpec) and described(net):
            return network.fits(net.spec)
        return network == name

    @functools.cached_property
    def training(self) -> Training:
        """How it was trained and what came of it.

        Raises:
            UserError: its papers do not say.
        """
        return self.record.training(self.folder / "student.json")


def save_student(
    folder: Path, net: nn.Module, task: Task, training: Training | None = None, network: str | None = None
) -> None:
    """Write a student folder; student.json comes last, so a folder that has it is complete.

    Args:
        folder: created if need be.
        net: the trained network.
        task: what it plays and sees.
        training: without it the student plays and labels, but cannot be evaluated as a student.
        network: of another network than an ``AtariCNN``, the name that ``build_network`` builds it by.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Copies, since safetensors refuses tensors that share memory.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in net.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(state))
    files = ["model.safetensors"]
    built_by: NetSpec | str | None = network
    if described(net):
        save_student_zip(net, task, folder / "student.zip")
        files.append("student.zip")
        built_by = net.spec
    assert built_by is not None
    sums = {name: sha256(folder / name) for name in files}
    told = {} if training is None else training.to_dict()
    write_student(folder / "student.json", StudentRecord(task, built_by, fingerprint(state), sums, told))


def save_student_zip(net: AtariCNN, task: Task, path: Path) -> None:
    """Write the zip of a student for stable-baselines3, which says what it plays and sees."""
    from distill.students.sb3 import save_sb3_zip

    save_sb3_zip(net, path, {name: getattr(task, name) for name in ("game", "preset", "preset_hash")})


def is_student(path: Path) -> bool:
    """True for a run folder or student folder with a finished student."""
    return (path / "student.json").is_file() or (path / "student" / "student.json").is_file()


def no_student(folder: Path, name: str) -> UserError:
    """What to say of a folder without a student of its own; ``name`` is what the user called it."""
    inside = [f"{name}/{path.name}" for path in sorted(folder.iterdir()) if is_student(path)] if folder.is_dir() else []
    if inside:
        shown = f"{', '.join(inside[:5])}{' and more' if len(inside) > 5 else ''}"
        return UserError(f"{name} is no student, but holds some; name one of them: {shown}")
    return UserError(f"no finished student at {name}; train one with `distill train`, or resume its run")


def load_student(path: str | Path) -> Student:
    """Load a student from its run folder or student folder.

    Raises:
        UserError: nothing there, unfinished, or damaged.
    """
    folder = at_home(path)
    if (folder / "student").is_dir():
        folder = folder / "student"
    if not (folder / "student.json").is_file():
        raise no_student(folder, str(path))
    record = read_student(folder / "student.json")
    check_recorded(folder, record.task.preset)
    try:
        state = load((folder / "model.safetensors").read_bytes())
        net = _build(folder, record, value="value.weight" in state)
        net.load_state_dict(state)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged ({first_line(error)}); train the student again") from error
    if fingerprint(state) != record.fingerprint:
        raise UserError(f"{folder}/model.safetensors does not match student.json; it is damaged")
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise UserError(f"{folder} has weights that are NaN or infinite: its training diverged; train it again")
    net.eval()
    return Student(net, record, folder)


def _build(folder: Path, record: StudentRecord, *, value: bool) -> nn.Module:
    name, actions = record.network, record.task.num_actions
    if isinstance(name, NetSpec):
        return AtariCNN(name, actions, value=value)
    if not is_dotted(name) and name not in NETWORKS:
        raise UserError(
            f"{folder} is of network {name!r}, which is not registered here{nearest(name, NETWORKS)}; import the "
            "package that registers it, on the command line by DISTILL_PLUGINS=its_name (docs/concepts.md)"
        )
    try:
        return build_network(name, actions)
    except UserError as error:
        raise UserError(f"{folder} is of a network that is not here: {error}") from error
