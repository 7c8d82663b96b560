"""What a run leaves: the student with its papers, and the same agent as a teacher's zip."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import yaml
from torch import nn

from distill.agents.actor import Policy
from distill.figures.fidelity import Fidelity, fidelity_of_outputs
from distill.imitate.learner import diverged
from distill.imitate.player import Played, Player
from distill.imitate.progress import Progress
from distill.imitate.ring import Ring
from distill.imitate.settings import ImitateRun
from distill.imitate.setup import student_preset
from distill.imitate.value import fit_value
from distill.networks.nets import AtariCNN
from distill.records.data import OwnGames
from distill.records.student import Training
from distill.students.folder import save_student
from distill.system.files import write_bytes
from distill.system.progress import console
from distill.task import Task
from teachers.protocol import TeacherInfo


def last_fidelity(config: ImitateRun, policy: Policy, player: Player, ring: Ring, folder: Path) -> Fidelity:
    """Figures on states that the final student plays and nothing was learned from; they go into the ring, too.

    Raises:
        DivergedError: the last update left weights that give NaN or infinity.
    """
    c, played = config.imitate, Played()
    while played.states < c.val_states or len(ring) < c.learning_starts:
        more = player.play(policy, c.steps_per_turn, c.teacher_share)
        ring.extend(more.rows)
        played.rows += more.rows
    student, teacher = played.logits()
    teacher = teacher / config.objective.temperature
    figures = fidelity_of_outputs(student, teacher, config.env)
    if not math.isfinite(figures.kl):
        raise diverged(folder, f"val/kl {figures.kl} after the last update")
    return figures


def write_student(
    config: ImitateRun, folder: Path, net: nn.Module, teacher: TeacherInfo, progress: Progress, fidelity: Fidelity
) -> None:
    """The student folder, with papers that every other stage reads."""
    preset = student_preset(config, teacher)
    training = Training(
        student=config.student.name,
        **teacher.told,
        data=OwnGames(progress.states, progress.next_game),
        objective=dataclasses.asdict(dataclasses.replace(config.objective, jacobian_weight=0.0)),
        learning_rate=config.imitate.learning_rate,
        seed=config.seed,
        steps=progress.step,
        best_step=progress.step,
        train_seconds=progress.seconds,
        metrics={f"val_{name}": value for name, value in vars(fidelity).items()},
    )
    task = Task(config.env, preset.name, preset.hash, teacher.num_actions)
    save_student(folder / "student", net, task, training, config.student.name)


def write_teacher_zip(
    config: ImitateRun, net: nn.Module, teacher: TeacherInfo, progress: Progress, ring: Ring
) -> Path | None:
    """The student as stable-baselines3's own ``CnnPolicy``, and its model card beside it, where they are asked for.

    Raises:
        UserError: there is nothing to fit its value head to.
    """
    from distill.students.sb3 import save_sb3_zip
    from teachers.keeper import Origin, card

    c, preset = config.imitate, student_preset(config, teacher)
    if c.teacher_zip is None:
        return None
    assert isinstance(net, AtariCNN)  # the settings were checked for that
    path = Path(c.teacher_zip).expanduser()
    agent = AtariCNN(net.spec, net.num_actions, value=c.value != "none")
    agent.load_state_dict(copy.deepcopy(net.state_dict()), strict=False)
    value = ""
    if c.value != "none":
        agent.value, explained = fit_value(net, ring, c.num_envs, c.value, config.seed)
        value = f"; value head fitted to {c.value}, R² {explained:.2f}"
        console.print(f"value head: explains {explained:.0%} of the variance of {c.value}")
    method = f"by online imitation of `{teacher.name}` (fingerprint {teacher.fingerprint[:12]}{value})"
    settings = yaml.safe_dump(dataclasses.asdict(c) | {"seed": config.seed}, sort_keys=False).strip()
    origin = Origin(config.env, preset.name, c.init, settings, "imitation", method)
    score = sum(progress.scores) / len(progress.scores) if progress.scores else math.nan
    path.with_suffix(".md").unlink(missing_ok=True)  # a card that names another file's checksum is refused
    papers = {"game": config.env, "preset": preset.name, "preset_hash": preset.hash, "role": "teacher"}
    save_sb3_zip(agent, path, papers)
    write_bytes(path.with_suffix(".md"), card(path, origin, progress.states, score, len(progress.scores)).encode())
    return path
