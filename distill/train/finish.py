"""What ``distill train`` says at its beginning, and what it leaves at its end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from distill.dataset.repeats import repeats
from distill.dataset.windowed import WindowedDataset
from distill.engine.step import make_engine
from distill.figures.fidelity import fidelity
from distill.networks.nets import count_parameters, described
from distill.records.loggers import Loggers
from distill.students.folder import save_student
from distill.system.files import remove_leftovers
from distill.system.progress import console, print_table
from distill.train.checkpoint import Progress
from distill.train.lesson import Lesson
from distill.train.network import network_name, network_text
from distill.train.run import objective_name
from distill.train.saver import BestSaver
from distill.train.settings import TrainRun
from distill.train.setup import Data


def describe(config: TrainRun, data: Data, model: nn.Module, total: int) -> None:
    """Print what is about to happen, and how much of the held-out states is no test: training has the same pixels."""
    s = data.sampler
    console.print(
        f"{network_text(config.student)} ({count_parameters(model):,} parameters) on {len(data.train_index):,} states "
        f"of {data.dataset.folder}, {len(data.val_index):,} held out; {total:,} steps of {s.batch_size} "
        f"({total / s.steps_per_epoch:.1f} epochs), {objective_name(config.objective)}, seed {config.seed}"
    )
    console.print(data.plan.text(config.objective))
    stored = config.objective.derivatives and config.objective.jacobian_targets == "stored"
    carries = data.dataset.carries[data.train_index]
    if stored and not carries.all():
        console.print(f"{carries.sum():,} of the training states carry derivatives, as do the first of every batch")
    if isinstance(data.dataset, WindowedDataset):
        console.print("how many held-out states occur among the training states is not counted in windows of shards")
    elif config.train.verify:
        share = repeats(data.dataset, data.val_index, data.dataset, data.train_index)
        if share > 0:
            console.print(f"{share:.1%} of the held-out states scored occur, pixel by pixel, among the training states")


def finish(lesson: Lesson, folder: Path, saver: BestSaver, loggers: Loggers) -> None:
    """Score the best weights once more and write the student folder."""
    config, data, progress, model = lesson.config, lesson.data, saver.progress, lesson.net
    model.load_state_dict(saver.best)
    saver.check_best()
    scores = fidelity(model, make_engine(model), data.loader, data.val_index, config.objective.temperature)
    found = vars(scores)
    loggers.hparams(
        _settings(lesson, progress), progress.best_step, {f"val/{name}": value for name, value in found.items()}
    )
    network = network_name(config, model, lesson.task.num_actions)
    if described(model) or network is not None:
        training = lesson.papers(scores, progress.step, progress.best_step, progress.seconds)
        save_student(folder / "student", model, lesson.task, training, network)
    rows = [(f"val/{name}", "-" if value is None else f"{value:.4f}") for name, value in found.items()]
    remove_leftovers(folder, below=True)
    rows += [("best step", str(progress.best_step)), ("time", f"{progress.seconds:.0f} s"), ("run", str(folder))]
    print_table(f"trained {objective_name(config.objective)}", ("", ""), rows)


def _settings(lesson: Lesson, progress: Progress) -> dict[str, Any]:
    """What the HPARAMS tab shows of a run, by short names."""
    config, t = lesson.config, lesson.config.train
    return {
        "student": network_text(config.student),
        **dataclasses.asdict(config.objective),
        **vars(lesson.data.plan),
        "terms": " ".join(f"{name} {weight:g}" for name, weight in config.objective.terms.items()) or None,
        "states": progress.train_states,
        "steps": progress.step,
        **{name: getattr(t, name) for name in ("batch_size", "warmup", "max_grad_norm", "weight_decay", "precision")},
        "seed": config.seed,
    }  # fmt: skip
