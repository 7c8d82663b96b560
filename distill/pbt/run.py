"""``distill pbt``: a population of students on Ray Tune, the schedule that it found, and that schedule once more."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import DivergedError, UserError
from distill.pbt.picture import picture
from distill.pbt.rounds import Job, Round
from distill.pbt.schedule import Segment, ancestry, best_of, read_schedule, write_schedule
from distill.pbt.settings import PbtRun, changed, ends_of
from distill.pbt.tuner import Search, make_trainable, search
from distill.records.runs import describe_run, is_same_run, plain, refuse_other_data
from distill.students.folder import is_student
from distill.sweep.grid import write_rows
from distill.system.alone import alone, refuse_several_processes
from distill.system.files import replace_folder, write_bytes
from distill.system.progress import Bar, console, print_table
from distill.system.ray_cluster import import_ray, workers
from distill.system.settings import check_settings, fill, part
from distill.train import run as of_training
from distill.train.auto import make_plan
from distill.train.settings import TrainRun
from distill.train.setup import check_dataset, data_used, training_split

FREE = (
    *of_training.FREE,
    *(f"pbt.{name}" for name in ("out", "num_workers", "num_cpus_per_worker", "num_gpus_per_worker", "ray_address")),
)
MATTERS = (*of_training.MATTERS, "pbt")
SCHEDULE, ROWS, PICTURE = "schedule.yaml", "rounds.csv", "population.png"


def pbt(config: PbtRun) -> Path:
    """See ``distill.config.stages.pbt``, which checks ``config`` first."""
    refuse_several_processes("population based training")
    p = config.pbt
    folder = fill(p.out, env=config.env, seed=config.seed)
    asked = plain(config)
    ends = tuple(ends_of(config.train.steps, p.perturbation_interval))
    segments: Sequence[Segment] = []
    done = is_same_run(folder, asked, PbtRun, "--pbt.out", FREE, MATTERS) and is_student(folder)
    if p.replay is not None:
        segments = _segments(config, p.replay)
        ends = tuple(segment.until for segment in segments)
        if done and read_schedule(str(folder / SCHEDULE), config.train.steps) != segments:
            raise UserError(
                f"{folder} was trained by another schedule than {p.replay} is now; choose another --pbt.out"
            )
    if done:
        console.print(f"{folder}: already trained; nothing to do")
        return folder
    if p.replay is None:
        import_ray("distill pbt")
    job = Job(part(config, TrainRun), folder, ends, os.getcwd(), ends_vary=p.replay is not None)
    _check_data(config, job, [segment.settings for segment in segments])
    with alone(folder, "--pbt.out", "pbt.lock"):
        describe_run(folder, asked)
        if segments:
            rounds = _replay(job, [segment.settings for segment in segments])
            return _finish(config, job, rounds, rounds[-1])
        _populate(config, job)
        rounds = job.rounds()
        return _finish(config, job, rounds, best_of(rounds, ends[-1]))


def _segments(config: PbtRun, name: str) -> Sequence[Segment]:
    """Those of a schedule, whose settings are checked as if they were given."""
    segments = read_schedule(name, config.train.steps)
    for segment in segments:
        try:
            check_settings(changed(config, segment.settings))
        except UserError as error:
            raise UserError(f"--pbt.replay={name}, until step {segment.until:,}: {error}") from error
    return segments


def _check_data(config: PbtRun, job: Job, given: Sequence[Mapping[str, float]]) -> None:
    """Verify the data once, and refuse now what a round would be refused for later."""
    dataset = job.open(config.train.verify)
    space, states = config.pbt.space.items(), training_split(job.config, dataset)[0]
    for settings in given or [{name: ends[end] for name, ends in space} for end in (0, 1)]:
        one = changed(job.config, settings)
        check_dataset(one, dataset)
        try:
            make_plan(one, len(states), dataset.identity.jacobian_share)
        except UserError as error:
            where = f"--pbt.replay={config.pbt.replay}" if given else "--pbt.space, at an end of it"
            raise UserError(f"{where}: {error}") from error
    used = data_used(job.config, dataset, states)
    for done in job.rounds():
        refuse_other_data(job.folder / done.run, used, "--pbt.out")


def _populate(config: PbtRun, job: Job) -> None:
    p, rounds = config.pbt, len(job.ends)
    with workers("distill pbt", p):
        total, done = p.members * rounds, len(job.rounds())
        with Bar(f"{p.scheduler}, {p.members} members", "rounds", total, min(done, total)) as bar:

            def watch(result: Mapping[str, Any]) -> None:
                found = job.rounds()
                best = f"best val KL {min(one.val_kl for one in found):.4f}" if found else "none whole yet"
                bar.update(min(len(found), total), best)

            search(make_trainable(job), Search(p, rounds, config.seed, job.folder), watch)


def _replay(job: Job, segments: Sequence[Mapping[str, float]]) -> Sequence[Round]:
    """Its rounds; others may lie beside them, where the schedule was edited since."""
    rounds: list[Round] = []
    opened = functools.cache(job.open)
    for number, settings in enumerate(segments, 1):
        rounds.append(job.play(settings, rounds[-1].run if rounds else "", number, opened))
    return rounds


def _finish(config: PbtRun, job: Job, rounds: Sequence[Round], best: Round | None) -> Path:
    """Write what was found, the student last: where that is, all is."""
    folder = job.folder
    if best is None:
        raise DivergedError(f"{folder}: every member diverged; lower --pbt.space, and choose another --pbt.out")
    chain = ancestry(rounds, best)
    names = sorted({name for one in rounds for name in one.settings})
    write_rows(folder / ROWS, [_row(one, names, one in chain) for one in rounds])
    write_schedule(folder / SCHEDULE, chain, config.seed)
    what = f"{config.env}: {len(rounds)} rounds, the best student in colour"
    write_bytes(folder / PICTURE, picture(rounds, chain, what))

    def copy(new: Path) -> None:
        shutil.copytree(folder / best.run / "student", new)

    replace_folder(folder / "student", copy)
    lines = [
        [f"{one.step:,}", *(f"{one.settings.get(name, 0):.3g}" for name in names), f"{one.val_kl:.4f}"] for one in chain
    ]
    short = [name.rpartition(".")[2].replace("_", " ") for name in names]
    print_table("the best student's schedule", ["until step", *short, "val kl"], lines)
    console.print(f"written: {folder / SCHEDULE}, {ROWS}, {PICTURE}, student")
    return folder


def _row(one: Round, names: Sequence[str], best: bool) -> dict[str, str]:
    told = {name: "" if name not in one.settings else str(one.settings[name]) for name in names}
    return {
        "run": one.run, "parent": one.parent, "round": str(one.number), "step": str(one.step), **told,
        "val_kl": str(one.val_kl), "best": str(int(best)),
    }  # fmt: skip
