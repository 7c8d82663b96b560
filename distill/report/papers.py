"""What is still known of an evaluated student: its papers, learning curves and the commands behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.figures.figure import OWN
from distill.records.dataset import read_writer
from distill.records.scores import AgentScores
from distill.report.plots import Curve
from distill.students.folder import Student, load_student
from distill.system.parser import read_saved
from teachers.layouts import student_folder

CURVES = {
    f"val/{figure.name}": (
        figure.name.replace("_", "-"),
        figure.axis,
        {"log": "log scale" in figure.axis, "percent": figure.form.endswith("%")},
    )
    for figure in OWN
    if figure.axis
}
"""By tag: name of its picture, label with unit, options."""


@dataclass(frozen=True)
class Run:
    """What is still known of an evaluated student."""

    student: Student | None = None
    """The student, if it is the one that was evaluated."""
    command: str | None = None
    """The command that trained it."""
    config: dict[str, Any] = field(default_factory=dict)
    """Its run's config.yaml."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """Learning curves by TensorBoard tag."""
    collected: tuple[str, ...] = ()
    """The commands that made its dataset, in order."""
    missing: str = ""
    """What is not there and why, as a sentence for the page."""


def find_run(agent: AgentScores) -> Run:
    """Papers and learning curves of a student, as far as they are where ``distill evaluate`` found them."""
    try:
        student = load_student(student_folder(agent.what))
        training = student.training
    except UserError as error:
        return Run(missing=str(error))
    if student.fingerprint != agent.fingerprint:
        return Run(missing=f"{agent.what} now holds another student than the one evaluated")
    folder = student.folder.parent
    if not (folder / "config.yaml").is_file():
        return Run(student, missing=f"{student.folder} stands alone, without the run that trained it")
    try:
        config = read_saved(folder / "config.yaml", "restore it from a copy")
    except UserError as error:
        return Run(student, missing=str(error))
    command = folder / "command.txt"
    return Run(
        student,
        command.read_text(errors="replace").strip() if command.is_file() else None,
        config,
        read_curves(folder, training.best_step),
        collect_commands(Path(training.data.folder)),
    )


def read_curves(folder: Path, best_step: int) -> dict[str, Curve]:
    """Validation curves in a run's TensorBoard events, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "histograms": 1})
    events.Reload()
    logged = [tag for tag in CURVES if tag in events.Tags()["scalars"]]
    points = {tag: events.Scalars(tag) for tag in logged}
    return {tag: Curve([p.step for p in points[tag]], [p.value for p in points[tag]], best_step) for tag in logged}


def collect_commands(dataset: Path) -> tuple[str, ...]:
    """The commands that made a dataset, oldest first; none where it is not here."""
    records = sorted(dataset.glob("writers/*.json"), key=lambda path: path.stat().st_mtime)
    return tuple(command for command in (read_writer(path).command for path in records) if command)
