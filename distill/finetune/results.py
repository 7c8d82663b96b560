"""What a run leaves: students with their papers, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from distill.figures.fidelity import Fidelity, fidelity_of_outputs
from distill.finetune.ppo import TaughtPPO
from distill.finetune.progress import Progress
from distill.finetune.settings import FinetuneRun
from distill.finetune.setup import Start
from distill.finetune.watch import Labels, UInt8
from distill.records.data import OwnGames
from distill.records.student import Training
from distill.students.folder import save_student
from distill.system.progress import print_table
from teachers.protocol import Teacher
from teachers.sb3_vec import AtariVecSB3

NOBODY = {"teacher": "", "teacher_name": None, "teacher_tau": None}
"""On the papers of a student that learned from reward alone, where there is no teacher to compare it with."""


def last_fidelity(model: TaughtPPO, env: AtariVecSB3, labels: Labels, states: int, game: str) -> Fidelity:
    """Figures on states that the final student plays and nothing was learned from.

    Args:
        model: who plays, on from where it is.
        env: its games.
        labels: the teacher's.
        states: how many, rounded up to whole steps.
        game: canonical game name.
    """
    assert isinstance(model._last_obs, np.ndarray)
    obs: UInt8 = model._last_obs
    played = []
    model.policy.set_training_mode(False)
    for _ in range(math.ceil(states / env.num_envs)):
        with torch.no_grad():
            logits = model.policy.outputs(torch.from_numpy(obs).to(model.device))[0].cpu()
        played.append((logits, torch.from_numpy(labels(obs if env.second_obs is None else env.second_obs))))
        action = torch.multinomial(logits.softmax(-1), 1).squeeze(1).numpy()
        obs = env.step(action.astype(np.int64))[0]  # type: ignore[assignment]
    student, teacher = (torch.cat(parts) for parts in zip(*played, strict=True))
    return fidelity_of_outputs(student, teacher, game)


def write_student(
    config: FinetuneRun, folder: Path, start: Start, teacher: Teacher | None, progress: Progress,
    metrics: Mapping[str, float | None],
) -> None:  # fmt: skip
    """The student as it is now, with papers that every other stage reads.

    Args:
        config: settings.
        folder: where it goes.
        start: who learned; its network has learned since.
        teacher: who taught, or with whom it is compared.
        progress: where the run stands.
        metrics: figures against the teacher, by name; ``kl`` and ``action_error`` at least, if there is one.
    """
    seen = {"teacher_preset": start.task.preset, "teacher_preset_hash": start.task.preset_hash}
    c = config.finetune
    training = Training(
        student=start.student.name,
        **(NOBODY | seen if teacher is None else teacher.info.told),
        data=OwnGames(progress.states, progress.begun),
        objective={
            "temperature": 1.0, "jacobian_weight": 0.0, "teacher_weight": 0.0 if teacher is None else c.teacher_weight,
            **{name: getattr(c, name) for name in ("schedule", "clipped_kl", "gamma", "ent_coef")},
        },
        learning_rate=c.learning_rate,
        seed=config.seed,
        steps=progress.step,
        best_step=progress.step,
        train_seconds=progress.seconds,
        metrics={"val_kl": None, "val_action_error": None, **{f"val_{name}": value for name, value in metrics.items()}},
    )  # fmt: skip
    save_student(folder, start.net, start.task, training, start.student.name)


def report(folder: Path, progress: Progress, metrics: Mapping[str, float | None]) -> None:
    """Print what came out."""
    score, best = progress.score, progress.best_score
    last = "none finished" if score is None else f"{score:.1f}, mean of the last {len(progress.scores)}"
    rows = [
        ("states", f"{progress.states:,}"),
        ("optimizer steps", f"{progress.step:,}"),
        ("score of its games", f"{last} of {progress.games:,}"),
        ("best", "-" if best is None else f"{best:.1f}, at step {progress.best_step:,}, kept in {folder / BEST}"),
    ]
    rows += [(f"val/{name}", "-" if value is None else f"{value:.4f}")
             for name, value in metrics.items() if name in ("kl", "action_error")]  # fmt: skip
    speed = progress.states / max(progress.seconds, 1e-9)
    rows += [("time", f"{progress.seconds:.0f} s, {speed:,.0f} states/s"), ("run", str(folder))]
    print_table("finetuned", ("", ""), rows)


BEST = "best-student"
"""Folder in the run of the best student so far."""
