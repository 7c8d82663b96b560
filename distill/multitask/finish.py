"""What a training of several games leaves: a student folder for each, and one table of their games."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from distill.dataset.reader import Dataset
from distill.envs.settings import CommonConfig
from distill.errors import UserError
from distill.evaluate.ready import check_games, play_within
from distill.evaluate.settings import EvaluateRun
from distill.evaluate.tables import how_played
from distill.multitask.settings import MultitaskRun
from distill.networks.build import build_student
from distill.students.folder import load_student, save_student
from distill.system.files import remove_leftovers
from distill.system.progress import console, print_table
from distill.system.settings import part
from distill.train.lesson import Lesson
from distill.train.saver import BestSaver
from distill.train.settings import TrainRun
from distill.train.setup import Data, labeller


def finish(lessons: Sequence[Lesson], nets: nn.ModuleDict, folder: Path, saver: BestSaver) -> None:
    """Write the best weights as a student of each game. Of several teachers of a game its papers name the first."""
    progress = saver.progress
    nets.load_state_dict(saver.best)
    saver.check_best()
    written: set[str] = set()
    rows = []
    for lesson in lessons:
        scores, task = lesson.score(), lesson.task
        rows.append((task.game, str(lesson.data.dataset.folder), f"{scores.kl:.4f}", f"{scores.action_error:.1%}"))
        if task.game not in written:
            papers = lesson.papers(scores, progress.step, progress.best_step, progress.seconds)
            save_student(folder / task.game / "student", nets[task.game], task, papers)
            written.add(task.game)
    remove_leftovers(folder, below=True)
    title = f"trained; best step {progress.best_step}, {progress.seconds:.0f} s; run {folder}"
    print_table(title, ("game", "dataset", "val KL", "action error"), rows)


def _playing(config: MultitaskRun, folder: Path, game: str) -> EvaluateRun:
    """Settings of the games that a student and its teacher play."""
    played = dataclasses.replace(
        config.evaluate,
        agents=["teacher", f"student={folder / game}"],
        games=config.multitask.games,
        out=str(folder / game / "scores"),
    )
    common = dataclasses.replace(part(config, CommonConfig), env=game, teacher="", preset=None, teacher_preset=None)
    return EvaluateRun(**vars(common), evaluate=played, threat=config.threat)


def check_play(config: MultitaskRun, folder: Path, runs: Sequence[TrainRun], data: Sequence[Data]) -> None:
    """Refuse now what the games at the end would be refused for in hours.

    Raises:
        UserError: as ``evaluate``, or a game's teacher is not there.
    """
    first = {run.env: (run, one.dataset) for run, one in reversed([*zip(runs, data, strict=True)])}
    for game, (run, dataset) in first.items() if config.multitask.games else ():
        _refuse_without_teacher(run, dataset)
        net = build_student(config.student, dataset.task.num_actions)
        check_games(_playing(config, folder, game), net, dataset.task.preset)


def _refuse_without_teacher(run: TrainRun, dataset: Dataset) -> None:
    """Who plays beside the student is whom the dataset names, or the game's bundled agent if that one taught."""
    try:
        labeller(run, dataset)
    except UserError as error:
        try:
            labeller(dataclasses.replace(run, teacher=run.env), dataset)
        except UserError:
            raise UserError(
                f"the teacher of {dataset.folder}, who is to play beside the student, cannot be used ({error}); bring "
                "it back, or leave --multitask.games out"
            ) from error


def play(config: MultitaskRun, folder: Path, games: Sequence[str]) -> None:
    """Let every student play beside its teacher, and print one table of all games; scores.json is in each folder."""
    if not config.multitask.games:
        return
    rows, how = [], ""
    for game in games:
        name = load_student(folder / game).training.teacher_name
        away = f"move {folder / game / 'scores'} away, or let the student play by distill evaluate"
        scores = play_within(_playing(config, folder, game), away)
        agents, how = scores.agents, how_played(scores)
        student, teacher = agents["student"], agents["teacher"]
        share = "-" if student.share_of_teacher is None else f"{student.share_of_teacher:.0%}"
        interval = f"{student.ci95[0]:.2f} .. {student.ci95[1]:.2f}"
        rows.append((game, str(name), f"{teacher.mean:.2f}", f"{student.mean:.2f}", interval, share))
    header = ("game", "teacher", "its score", "student", "95 % interval", "of teacher")
    print_table(f"one student, {config.multitask.games} whole games of each\n{how}", header, rows)
    console.print(f"scores.json of each game: {folder}/*/scores")
