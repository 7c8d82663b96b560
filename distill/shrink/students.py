"""One cell of the ladder: a student that is trained, quantised where it is to play in int8, and played."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import torch

from distill.agents.own_states import match_of, own_states
from distill.envs.presets import OBS_SHAPE
from distill.envs.settings import CommonConfig
from distill.errors import DivergedError, UserError, first_line
from distill.evaluate.ready import play_within
from distill.evaluate.settings import EvaluateRun
from distill.figures.fidelity import fidelity_of_outputs
from distill.imitate.loop import imitate
from distill.imitate.settings import ImitateRun
from distill.networks.build import build_student
from distill.networks.nets import count_parameters, described, draws_at_play, to_unit
from distill.records.record import Kind
from distill.records.scores import AgentScores
from distill.records.shape import count, number, text
from distill.rounds.loop import rounds
from distill.rounds.settings import RoundsRun
from distill.shrink.settings import FLOAT32, INT8, ShrinkRun
from distill.students.folder import Student, is_student, load_student
from distill.students.onnx_file import write_int8, write_program
from distill.sweep.cells import cell_name, naming
from distill.sweep.grid import Cell
from distill.system.files import sha256
from distill.system.progress import console
from distill.system.settings import part
from distill.train.loop import train
from distill.train.settings import TrainRun
from teachers.formats.onnx_file import load_onnx

FILES = {FLOAT32: "student/model.safetensors", INT8: "int8/student.onnx"}
"""What is shipped of a student, in its run folder."""
AGAINST = "int8/against_float32.json"
"""How far its int8 form is from it."""
COMPARISON = Kind("comparison", {"kl": number, "action_error": number, "states": count, "sha256?": text})


def cells(config: ShrinkRun, seed: int) -> list[Cell]:
    """What is trained from one seed, and how it plays; every network before the next."""
    s = config.shrink
    return [
        {"network": network, "seed": seed, "precision": precision}
        for network in s.networks
        for precision in s.precisions
    ]


def run_name(cell: Cell) -> str:
    """Folder of a student."""
    return cell_name({name: cell[name] for name in ("network", "seed")})


def run_settings(config: ShrinkRun, cell: Cell, folder: Path) -> ImitateRun | TrainRun:
    """Settings of a student's training, whose run is in ``folder``."""
    student = dataclasses.replace(config.student, name=cell["network"])
    out = str(folder / run_name(cell))
    by = config.shrink.by
    if by == "train":
        learning = dataclasses.replace(config.train, out=out, resume=False)
        return dataclasses.replace(part(config, TrainRun), seed=cell["seed"], student=student, train=learning)
    playing = dataclasses.replace(config.imitate, out=out, resume=False)
    own = part(config, RoundsRun if by == "rounds" else ImitateRun)
    return dataclasses.replace(own, seed=cell["seed"], student=student, imitate=playing)


def run_cell(config: ShrinkRun, folder: Path, cell: Cell) -> dict[str, Any] | None:
    """Train, quantise and play; what an earlier process has done of it is not done again.

    Returns:
        Columns of the cell's row, or None where the training diverged.
    """
    settings = run_settings(config, cell, folder)
    with naming(cell):
        try:
            where = _learn(settings, folder / run_name(cell), cell["precision"])
        except DivergedError as error:
            console.print(str(error))
            return None
        student = load_student(where)
        against = _quantise(config, student, where) if cell["precision"] == INT8 else {}
        played = _play(config, where, cell["precision"])
    training = student.training
    return {
        "score": played.mean,
        "score_low": played.ci95[0],
        "score_high": played.ci95[1],
        "weights": count_parameters(student.net),
        "bytes": (where / FILES[cell["precision"]]).stat().st_size,
        "val_kl": training.metrics["val_kl"],
        "val_action_error": training.metrics["val_action_error"],
        "int8_kl": against.get("kl"),
        "int8_action_error": against.get("action_error"),
        "train_seconds": training.train_seconds,
        "run": where.name,
    }


def _learn(settings: ImitateRun | TrainRun, where: Path, precision: str) -> Path:
    """The run folder of a student; one that has played in float32 already is there."""
    if precision == INT8 and is_student(where):
        return where
    if isinstance(settings, RoundsRun):
        return rounds(settings)
    return imitate(settings) if isinstance(settings, ImitateRun) else train(settings)


def check_int8(config: ShrinkRun, num_actions: int) -> None:
    """Refuse networks that have no int8 form now, and not when they are trained.

    Raises:
        UserError: one draws noise at play, or PyTorch cannot export it.
    """
    for network in config.shrink.networks:
        net = build_student(dataclasses.replace(config.student, name=network), num_actions)
        floats = "leave it out, or say --shrink.precisions=[float32]"
        if draws_at_play(net):
            raise UserError(f"{network} draws noise at play, which int8 cannot; add --student.noise_at_play=false")
        if described(net):
            continue
        try:
            with tempfile.TemporaryDirectory() as place:
                write_program(net, {"pixels": torch.zeros(2, *OBS_SHAPE)}, Path(place) / "x.onnx", {})
        except Exception as error:  # it is somebody's program
            why = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(
                f"PyTorch cannot export {network} to ONNX, so it has no int8 form ({why}); {floats}"
            ) from error


def _quantise(config: ShrinkRun, student: Student, where: Path) -> dict[str, Any]:
    """Write the int8 file, and how its policy differs from the student's on other states of the same games."""
    path, against = where / FILES[INT8], where / AGAINST
    if against.exists() and path.exists():
        found = COMPARISON.read(against)
        if found.get("sha256") not in (None, sha256(path)):  # an earlier version did not say
            raise UserError(f"{path} has changed since it was written; remove {path.parent}, and it is made again")
        return found
    count = config.shrink.calibration_states
    states = own_states(match_of(student, config.evaluate.protocol), 2 * count, student.training.seed)
    write_int8(student.net, path, student.task, states[::2])
    x = to_unit(torch.from_numpy(states[1::2]))
    with torch.no_grad():
        float32, int8 = student.net(x), load_onnx(path).net(x)
    figures = fidelity_of_outputs(int8, float32, student.task.game)
    told: dict[str, Any] = {"kl": float(figures.kl), "action_error": float(figures.action_error), "states": count,
            "sha256": sha256(path)}  # fmt: skip
    COMPARISON.write(against, told)
    return told


def _play(config: ShrinkRun, where: Path, precision: str) -> AgentScores:
    """Whole games of a finished student in one precision."""
    what = where if precision == FLOAT32 else where / FILES[INT8]
    out = where / f"scores-{precision}"
    return play_within(evaluation(config, [f"{precision}={what}"], out), f"remove {out}").agents[precision]


def evaluation(config: ShrinkRun, agents: list[str], out: Path) -> EvaluateRun:
    """Settings of an evaluation: the same games for all, each agent on its own preset."""
    played = dataclasses.replace(
        config.evaluate, agents=agents, games=config.shrink.games, data=None, figures=[], out=str(out)
    )
    common = dataclasses.replace(part(config, CommonConfig), preset=None, teacher_preset=None)
    return EvaluateRun(**vars(common), evaluate=played)
