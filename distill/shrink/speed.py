"""Microseconds from a stack of screens to logits: batch 1, one thread, all agents in turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from distill.agents.actor import Policy
from distill.envs.presets import OBS_SHAPE
from distill.errors import first_line
from distill.shrink.settings import FLOAT32, INT8
from distill.shrink.students import FILES
from distill.students.folder import load_student
from distill.students.onnx_file import write_onnx
from distill.sweep.grid import Row, above_zero_or_nothing, check_rows, filled, read_rows, write_rows
from distill.system.progress import Bar, console
from distill.system.streams import generator
from distill.task import Task
from teachers.formats.onnx_file import OnnxPolicy, load_onnx
from teachers.protocol import Teacher

TEACHER = "teacher"
PYTORCH, ONNXRUNTIME = "pytorch", "onnxruntime"
WARM_UP, ROUNDS, CALLS = 5, 40, 10
FORMS = {**dict.fromkeys(("network", "precision", "runtime"), filled),
         **dict.fromkeys(("microseconds", "low", "high"), above_zero_or_nothing)}  # fmt: skip
Key = tuple[str, str, str]
"""Network or ``teacher``, precision, and what runs it."""


def speeds(folder: Path, teacher: Teacher, rows: list[Row], *, onnx: bool) -> dict[Key, Row]:
    """What ``speed.csv`` says; measured, all together, where it lacks any of these agents.

    Args:
        folder: of the ladder.
        teacher: who taught.
        rows: finished cells; students of one network are equally fast.
        onnx: float32 networks by onnxruntime, too.
    """
    runs = {row["network"]: folder / row["run"] for row in reversed(rows)}
    wanted = {(network, FLOAT32, PYTORCH) for network in (*runs, TEACHER)}
    wanted |= {(network, FLOAT32, ONNXRUNTIME) for network in (*runs, TEACHER) if onnx}
    wanted |= {(row["network"], INT8, ONNXRUNTIME) for row in rows if row["precision"] == INT8}
    before = read_rows(folder / "speed.csv")
    check_rows(before, folder / "speed.csv", FORMS)
    known = {_key(row): row for row in before}
    if wanted <= known.keys():
        return known
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as place:
            measured = microseconds(_agents(Path(place), teacher, runs, wanted))
    finally:
        torch.set_num_threads(threads)
    found = [_row(key, measured.get(key)) for key in sorted(wanted)]
    write_rows(folder / "speed.csv", found)
    return {_key(row): row for row in found}


def microseconds(agents: Mapping[Key, nn.Module]) -> dict[Key, tuple[float, float, float]]:
    """Median and quartiles of the calls of each agent; a few calls of each in turn.

    What is timed is what an agent of ``distill evaluate`` does: uint8 (1, 4, 84, 84) to float32 logits.
    """
    obs = generator("speed").integers(0, 256, (1, *OBS_SHAPE), dtype=np.uint8)
    policies = {key: Policy(net, torch.device("cpu")) for key, net in agents.items()}
    times: dict[Key, list[float]] = {key: [] for key in policies}
    with Bar("time", "rounds", ROUNDS) as bar:
        for number in range(ROUNDS):
            for key, policy in policies.items():
                for call in range(WARM_UP + CALLS):
                    begin = time.perf_counter()
                    policy.logits(obs)
                    if call >= WARM_UP:  # the caches are this agent's again
                        times[key].append(1e6 * (time.perf_counter() - begin))
            bar.update(number + 1, f"{len(policies)} agents, batch 1, one thread")
    ends = {key: np.percentile(taken, (50, 25, 75)) for key, taken in times.items()}
    return {key: (float(median), float(low), float(high)) for key, (median, low, high) in ends.items()}


def _agents(place: Path, teacher: Teacher, runs: Mapping[str, Path], wanted: set[Key]) -> dict[Key, nn.Module]:
    """Networks to time: none by onnxruntime that PyTorch cannot export, none by PyTorch that is an ONNX file."""
    found: dict[Key, nn.Module] = {}
    for network, precision, runtime in sorted(wanted):
        student = None if network == TEACHER else load_student(runs[network])
        net, task = (teacher.net, teacher.info.task) if student is None else (student.net, student.task)
        if precision == INT8:
            net = load_onnx(runs[network] / FILES[INT8]).net
        elif isinstance(net, OnnxPolicy):
            if runtime == PYTORCH:
                continue
            net = load_onnx(net.file).net  # with the threads that there are now
        elif runtime == ONNXRUNTIME:
            try:
                net = _exported(net, place / f"{len(found)}.onnx", task)
            except Exception as error:
                console.print(f"{network}: not timed by onnxruntime, since it cannot be exported ({first_line(error)})")
                continue
        found[network, precision, runtime] = net
    return found


def _exported(net: nn.Module, path: Path, task: Task) -> nn.Module:
    write_onnx(net, path, task)
    return load_onnx(path).net


def _row(key: Key, measured: tuple[float, float, float] | None) -> Row:
    """As text; without numbers for what cannot be timed, so that it is known and not tried again."""
    times = ("", "", "") if measured is None else tuple(f"{value:.2f}" for value in measured)
    names = ("network", "precision", "runtime", "microseconds", "low", "high")
    return dict(zip(names, (*key, *times), strict=True))


def _key(row: Row) -> Key:
    return row["network"], row["precision"], row["runtime"]
