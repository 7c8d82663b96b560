"""What a run leaves: the student with its papers, and the same agent as a teacher's zip."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import yaml

from distill.agents.actor import Policy
from distill.figures.fidelity import Fidelity, fidelity_of_outputs
from distill.imitate.begin import Parts, Run
from distill.imitate.learner import diverged
from distill.imitate.player import Played, Player
from distill.imitate.ring import Ring
from distill.imitate.value import fit_value, states_for
from distill.networks.nets import AtariCNN, described
from distill.records.data import OwnGames
from distill.records.runs import plain
from distill.records.student import Training
from distill.students.folder import save_student
from distill.system.files import place_here, write_bytes
from distill.system.progress import console
from distill.task import Task


def last_fidelity(run: Run, policy: Policy, player: Player, ring: Ring | None) -> Fidelity:
    """Figures on states that the final student plays and nothing was learned from; they go into the ring, too.

    Raises:
        DivergedError: the last update left weights that give NaN or infinity.
    """
    c, played = run.config.imitate, Played()
    wanted = 0 if ring is None else min(ring.states, max(c.learning_starts, states_for(c.value, c.num_envs)))
    player.onlooker = None
    while played.states < c.val_states or (ring is not None and len(ring) < wanted):
        more = player.play(policy, c.steps_per_turn, 0.0)  # the teacher leaves the games that it plays to the student
        if ring is not None:
            ring.extend(more.rows)
        played.rows += more.rows
    student, teacher = played.logits()
    teacher = teacher / run.config.objective.temperature
    figures = fidelity_of_outputs(student, teacher, run.config.env)
    if not math.isfinite(figures.kl):
        raise diverged(run.folder, f"val/kl {figures.kl} after the last update")
    return figures


def write_student(run: Run, parts: Parts, fidelity: Fidelity) -> None:
    """The student folder, with papers that every other stage reads; ``parts`` are what it learned by."""
    objective = parts.objective
    config, progress, teacher, preset = run.config, run.progress, run.teacher.info, run.preset
    used = {name: getattr(objective, name) for name in ("jacobian_weight", "jacobian_share", "jacobian_until")}
    training = Training(
        student=config.student.name,
        **teacher.told,
        data=OwnGames(progress.states, progress.next_game),
        objective=dataclasses.asdict(config.objective) | (used if objective.derivatives else {"jacobian_weight": 0.0}),
        learning_rate=config.imitate.learning_rate,
        early_learning_rate=parts.early_rate,
        jacobian_scale=progress.jacobian_scale or 1.0,
        seed=config.seed,
        steps=progress.step,
        best_step=progress.step,
        train_seconds=progress.seconds,
        metrics={f"val_{name}": value for name, value in vars(fidelity).items()},
    )
    task = Task(config.env, preset.name, preset.hash, teacher.num_actions)
    save_student(run.folder / "student", run.net, task, training, config.student.name)


def write_teacher_zip(run: Run, ring: Ring | None) -> Path | None:
    """The student as stable-baselines3's own ``CnnPolicy``, and its model card beside it, where they are asked for.

    Args:
        run: that is over.
        ring: its newest states; None for a zip without a fitted value head.

    Raises:
        UserError: there is nothing to fit its value head to.
    """
    from distill.students.sb3 import save_sb3_zip
    from teachers.keeper import Origin, card

    config, net, teacher, progress = run.config, run.net, run.teacher.info, run.progress
    c, preset = config.imitate, run.preset
    if c.teacher_zip is None:
        return None
    assert described(net)  # the settings were checked for that
    path = place_here(c.teacher_zip)
    agent = AtariCNN(net.spec, net.num_actions, value=c.value != "none")
    agent.load_state_dict(copy.deepcopy(net.state_dict()), strict=False)
    value = ""
    if c.value != "none":
        assert ring is not None  # the settings were checked for that, too
        agent.value, explained = fit_value(net, ring, c.num_envs, c.value, config.seed)
        value = f"; value head fitted to {c.value}, R² {explained:.2f}"
        console.print(f"value head: explains {explained:.0%} of the variance of {c.value}")
    method = f"by online imitation of `{teacher.name}` (fingerprint {teacher.fingerprint[:12]}{value})"
    asked = plain(config)
    settings = yaml.safe_dump({name: asked[name] for name in config.MATTERS}, sort_keys=False).strip()
    origin = Origin(config.env, preset.name, c.init, settings, "imitation", method)
    score = sum(progress.scores) / len(progress.scores) if progress.scores else math.nan
    path.with_suffix(".md").unlink(missing_ok=True)  # a card that names another file's checksum is refused
    papers = {"game": config.env, "preset": preset.name, "preset_hash": preset.hash, "role": "teacher"}
    save_sb3_zip(agent, path, papers | {"value": c.value})
    write_bytes(path.with_suffix(".md"), card(path, origin, progress.states, score, len(progress.scores)).encode())
    return path
