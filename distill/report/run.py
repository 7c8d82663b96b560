"""``distill report``: one HTML page about one evaluation, and its pictures beside it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.agents.names import SCORES
from distill.batches.source import Index
from distill.dataset.reader import Dataset
from distill.dataset.schema import read_manifest
from distill.dataset.used import held_out
from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError
from distill.figures.saliency import Saliency, choose_states, influence_maps, saliency
from distill.figures.shares import related
from distill.networks.parts import draws_from
from distill.records.scores import Scores, read_scores
from distill.report import page
from distill.report import plots as figures
from distill.report.papers import CURVES, Run, find_run
from distill.report.plots import DARK, LIGHT, Theme
from distill.report.settings import ReportRun
from distill.report.style import GENERATOR
from distill.students.folder import Student
from distill.system.device import pick_device
from distill.system.files import write_bytes
from distill.system.progress import console
from distill.system.settings import fill
from distill.system.streams import torch_generator
from teachers.load import load_teacher
from teachers.protocol import Teacher

PICTURES = ("returns", *(name for name, _, _ in CURVES.values()), "saliency", "influence")
OURS = {"index.html", *(f"{name}{dark}.png" for name in PICTURES for dark in ("", "-dark"))}


def report(config: ReportRun) -> Path:
    """See ``distill.config.stages.report``, which checks ``config`` first."""
    path = fill(config.report.scores, env=config.env)
    path = path / SCORES if path.is_dir() else path
    folder = fill(config.report.out, env=config.env)
    record = read_scores(path)
    if config.report.data is not None:
        read_manifest(fill(config.report.data, env=config.env))
    _check_folder(folder)
    runs = {name: find_run(agent) for name, agent in record.agents.items() if agent.kind == "student"}
    record = _name_teachers(record, runs)
    looks, notes = look(config, record.game, runs)
    pictures = {**draw(record, runs, looks, LIGHT, ""), **draw(record, runs, looks, DARK, "-dark")}
    html = page.render(record, runs, pictures, notes, _date(path, record))
    _write(folder, html, pictures)
    console.print(f"written: {folder / 'index.html'} ({len(html) / 1e6:.1f} MB, self-contained)")
    return folder / "index.html"


def _name_teachers(record: Scores, runs: Mapping[str, Run]) -> Scores:
    """Scores of an earlier version compare every student with the first teacher; papers say whose student it is."""
    papers = {name: run.student.training for name, run in runs.items() if run.student is not None}
    played = {
        name: replace(agent, teacher=papers[name].teacher) if name in papers and agent.teacher is None else agent
        for name, agent in record.agents.items()
    }
    if played == record.agents:
        return record
    names = {name: str(paper.teacher_name) for name, paper in papers.items()}
    return replace(record, agents=related(record.game, played, names))


def look(config: ReportRun, game: str, runs: Mapping[str, Run]) -> tuple[Saliency | None, list[str]]:
    """Saliency of every student at hand, on states held out from their training.

    Returns:
        (pictures or None, sentences about what is left out or doubtful).
    """
    students = {name: run.student for name, run in runs.items() if run.student is not None}
    given = config.report.data
    trained_on = [Path(student.training.data.folder) for student in students.values()]
    folders = trained_on if given is None else [fill(given, env=config.env)] * len(students)
    here = [folder for folder in folders if (folder / "dataset.json").is_file()]
    if not here:
        return None, ["No student with its dataset is at hand." if students else "No student is at hand."]
    try:
        dataset = Dataset(here[0], jacobian=False)
        shown, held, notes = _held_out(dataset, students)
        if not shown:
            return None, notes
        if len(held) == 0:
            return None, [*notes, "No state is held out from the training of all these students."]
        teacher, excuse = _teacher(config, game, dataset, next(iter(shown.values())))
    except UserError as error:
        return None, [str(error)]
    nets = {name: student.net for name, student in shown.items()}
    states = choose_states(dataset, held)
    net = None if teacher is None else teacher.net
    device = pick_device(config.device)
    with draws_from(torch_generator("noise of pictures", 0)):  # the same report has the same pictures
        maps = influence_maps(dataset, states, net, nets, device)
        return replace(saliency(dataset, states, net, nets, device), influence=maps), notes + excuse


def _held_out(dataset: Dataset, students: Mapping[str, Student]) -> tuple[dict[str, Student], Index, list[str]]:
    """Students of the dataset's task and teacher, the states none of them trained on, and what is doubtful."""
    shown, notes = {}, []
    held: Index = np.arange(len(dataset))
    for name, student in students.items():
        training = student.training
        other = student.task.difference(dataset.task)
        if other:
            notes.append(f"{name} is left out of the pictures of {dataset.folder}: it {other}.")
            continue
        if training.teacher != dataset.identity.teacher:
            notes.append(f"{name} is left out: it learned from another teacher.")
            continue
        shown[name] = student
        if training.data.created != dataset.manifest.created:
            notes.append(f"{name} was trained on another dataset, {training.data.folder}.")
        try:
            held = np.intersect1d(held, held_out(dataset, training))
        except UserError:
            notes.append(f"{dataset.folder} has changed since {name} was trained on it: it may know these states.")
    return shown, held if shown else held[:0], notes


def _teacher(config: ReportRun, game: str, dataset: Dataset, student: Student) -> tuple[Teacher | None, list[str]]:
    """The teacher that labelled the dataset, the one that was asked for or the student's; and what there is to say."""
    identity = dataset.identity
    if not identity.same_eyes:
        seen = f"it saw preset {identity.teacher_preset}, and {identity.preset} is recorded"
        return None, [f"The teacher’s column is left out: {seen}."]
    asked = [config.teacher] if config.teacher not in ("", config.env, game) else []
    passed: list[str] = []
    for name in (*asked, student.training.teacher_name or game):
        teacher = _labeller(name, config, game, dataset)
        if not isinstance(teacher, str):
            return teacher, [f"The teacher asked for is not shown: {why}." for why in passed]
        passed.append(teacher)
    return None, [f"The teacher’s column is left out: {why}." for why in dict.fromkeys(passed)]


def _labeller(name: str, config: ReportRun, game: str, dataset: Dataset) -> Teacher | str:
    """The teacher of that name, or why it is not one whose derivatives of the dataset can be drawn."""
    tau = dataset.manifest.teacher_tau or config.tau
    try:
        teacher = load_teacher(name, game=game, preset=dataset.identity.preset, tau=tau)
    except UserError as error:
        return str(error)
    if teacher.info.fingerprint != dataset.identity.teacher:
        return f"{name} is not the agent that labelled the dataset"
    return teacher if _has_derivatives(teacher.net) else f"{name} has no derivatives"


def _has_derivatives(net: nn.Module) -> bool:
    """False for an ONNX file, whose labels one may learn from all the same."""
    try:
        answer: Tensor = net(torch.zeros(1, *OBS_SHAPE, requires_grad=True))
    except UserError:
        return False
    return answer.requires_grad


def draw(
    record: Scores, runs: Mapping[str, Run], looks: Saliency | None, theme: Theme, suffix: str
) -> dict[str, bytes]:
    """Every picture there is data for, as PNG by file name."""
    colour = figures.colours(record.agents, theme)
    drawn = {"returns": figures.returns(record, theme)}
    for tag, (name, label, options) in CURVES.items():
        curves = {student: run.curves[tag] for student, run in runs.items() if tag in run.curves}
        if curves:
            drawn[name] = figures.learning_curve(curves, colour, label, theme, **options)
    if looks is not None:
        drawn["saliency"] = figures.saliency_grid(looks, theme)
        if looks.influence is not None:
            drawn["influence"] = figures.saliency_grid(looks.influence, theme)
    return {f"{name}{suffix}.png": png for name, png in drawn.items()}


def _date(path: Path, record: Scores) -> str:
    """When the games were played: as recorded, else when the file was written."""
    written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return str(record.created or written.isoformat())[:10]


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier report."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; choose another --report.out")
    names = {item.name for item in folder.iterdir() if not (item.name.startswith(".") and item.name.endswith(".tmp"))}
    index = folder / "index.html"
    foreign = sorted(names - OURS)
    if names and not foreign and not (index.is_file() and GENERATOR in index.read_text(errors="replace")):
        foreign = sorted(names)
    if foreign:
        raise UserError(f"{folder} holds {foreign[0]}, which is not part of a report; choose another --report.out")


def _write(folder: Path, html: str, pictures: Mapping[str, bytes]) -> None:
    """The page first: it marks the folder as ours, and is whole without the pictures."""
    write_bytes(folder / "index.html", html.encode())
    for name, png in pictures.items():
        write_bytes(folder / name, png)
    for name in OURS - set(pictures) - {"index.html"}:
        (folder / name).unlink(missing_ok=True)
