"""From settings to what the loop needs: who learns, and what is minimised."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from distill.envs.presets import Preset, get_preset
from distill.envs.second_sight import refuse_other_screens
from distill.errors import UserError
from distill.imitate.settings import ImitateRun
from distill.losses.sobolev import Objective
from distill.losses.terms import make_terms
from distill.losses.trial import try_terms
from distill.networks.build import build_student, student_spec
from distill.networks.inherit import inherit, refuse_other_eyes, refuse_start
from distill.networks.nets import NETS, NetSpec, same_network, take_weights
from distill.networks.registry import find_network
from distill.students.folder import load_student
from distill.system.files import place_here, refuse_closed
from distill.system.progress import console
from distill.system.settings import changed
from teachers.formats.sb3 import load_sb3_zip, sb3_papers
from teachers.load import load_teacher
from teachers.protocol import Teacher, TeacherInfo

READ = ("divergence", "temperature", "terms", "input_noise")
"""Settings of the objective that count without derivatives, or are refused."""


def check_settings(config: ImitateRun, teacher: Teacher) -> None:
    """Refuse settings of other stages, terms that fail, and a zip that could not be written at the end.

    Raises:
        UserError: naming the setting.
    """
    i = config.imitate
    refuse_other_screens(get_preset(teacher.info.preset), student_preset(config, teacher.info))
    if config.student.init is not None:
        raise UserError(f"--student.init={config.student.init} is of `distill train`; use --imitate.init")
    if config.student.teacher_layers:
        refuse_other_eyes(teacher.info.preset, student_preset(config, teacher.info).name)
        refuse_start(config.student.teacher_layers, i.init, "--imitate.init")
    if config.objective.input_noise > 0:
        raise UserError("--objective.input_noise is of `distill train`; leave it out")
    if i.value == "teacher" and not teacher.has_value:
        raise UserError(f"--imitate.value=teacher, but {teacher.info.name} has no value head; use returns or none")
    try_terms(make_terms(config.objective.terms), teacher.info.num_actions, config.device)
    if i.teacher_zip is None:
        return
    path = place_here(i.teacher_zip)
    if path.suffix != ".zip":
        raise UserError(f"--imitate.teacher_zip must end in .zip, got {i.teacher_zip}")
    file = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)
    if file is not None:
        raise UserError(f"--imitate.teacher_zip={i.teacher_zip} would lie in {file}, which is a file")
    refuse_closed(path, "--imitate.teacher_zip=")
    described = isinstance(find_network(config.student.name), NetSpec)
    if not described or student_spec(config.student) != NETS["nature"]:
        raise UserError("--imitate.teacher_zip writes CnnPolicy's own network only; add --student.name=nature")


def check_zip(config: ImitateRun, folder: Path, written: nn.Module | None, *, over: bool) -> None:
    """Refuse a zip that stands in the way of others' files, or of a run that has ended without one.

    Args:
        config: settings.
        folder: the run.
        written: a zip that has these weights is of this run, which was killed before it was over.
        over: it has its student.

    Raises:
        UserError: naming the file.
    """
    if config.imitate.teacher_zip is None:
        return
    path = place_here(config.imitate.teacher_zip)
    if over:
        if not path.exists():
            raise UserError(
                f"{folder} is over, and --imitate.teacher_zip is written at the end of a run; let its student teach by "
                f"--teacher={folder}, or write it by `distill export {folder} --format sb3 --out {path}`"
            )
        _refuse_other_zip(config.imitate.value, folder, path)
        return
    for place in (path, path.with_suffix(".md")):
        if os.path.lexists(place) and (written is None or not _is_of(path, written)):
            raise UserError(f"{place} exists; choose another --imitate.teacher_zip")


def _refuse_other_zip(value: str, folder: Path, path: Path) -> None:
    """Refuse a zip that a run that is over did not write, or wrote with another value head than is asked for."""
    if not _is_of(path, load_student(folder).net):
        raise UserError(
            f"{folder} is over, and {path} is not a zip of its student; leave --imitate.teacher_zip out, or name the "
            "one that it wrote"
        )
    has_head, written = "value.weight" in load_sb3_zip(path).state, sb3_papers(path).get("value")
    if has_head != (value != "none") if written is None else written != value:
        had = written or ("teacher or returns" if has_head else "none")
        raise UserError(
            f"{folder} is over, and its zip {path} was written with --imitate.value={had}, not {value}; give that "
            "one, or another --imitate.out"
        )


def _is_of(path: Path, net: nn.Module) -> bool:
    """Whether a zip has the weights of a network."""
    try:
        state = load_sb3_zip(path).state
    except (UserError, OSError):
        return False
    return all(
        name in state and tensor.cpu().equal(state[name].to(tensor.dtype)) for name, tensor in net.state_dict().items()
    )


def check_plain(config: ImitateRun) -> None:
    """Refuse terms that read derivatives, where there are none.

    Raises:
        UserError: naming the setting.
    """
    if any(term.derivatives for term in make_terms(config.objective.terms)):
        raise UserError("--objective.terms has one that reads the teacher's derivatives; only `distill train` has them")


def tell_passed_over(config: ImitateRun) -> None:
    """Say which settings of derivatives have no part in a run; a file of settings may be of `distill train`, too."""
    names = [name for name in changed(config.objective) if name not in READ]
    if names:
        console.print(
            f"derivatives have no part in it, so passed over: {', '.join(f'objective.{name}' for name in names)}; "
            "`distill rounds --rounds.derivatives=true` matches them"
        )


def check_online(config: ImitateRun) -> None:
    """Refuse a run that would end before it learns.

    Raises:
        UserError: naming the setting.
    """
    i = config.imitate
    if i.states is not None and i.learning_starts >= i.states:
        raise UserError(
            f"--imitate.learning_starts must be below imitate.states, {i.states}, or nothing is learned; "
            f"got {i.learning_starts}"
        )
    turn = i.num_envs * i.steps_per_turn
    if i.states is not None and turn >= i.states:
        raise UserError(
            f"--imitate.num_envs={i.num_envs} games of imitate.steps_per_turn={i.steps_per_turn} steps are {turn:,} "
            f"states a turn, and nothing is learned in the first; let imitate.states={i.states:,} be more of them"
        )


def student_preset(config: ImitateRun, teacher: TeacherInfo) -> Preset:
    """What the student sees: by default what the teacher sees."""
    return get_preset(config.preset or teacher.preset)


def make_student(config: ImitateRun, teacher: Teacher) -> nn.Module:
    """The student that the settings describe, with fresh or given weights.

    Raises:
        UserError: ``imitate.init`` is another network, of another game or preset, or gives Q-values; the teacher's
            layers do not fit.
    """
    net = build_student(config.student, teacher.info.num_actions)
    init = config.imitate.init
    if init is not None:
        start = load_teacher(init, game=config.env, preset=student_preset(config, teacher.info).name)
        start.info.require_policy(f"--imitate.init={init}")
        take_weights(net, start.net, f"--imitate.init={init}", config.student.name, same=same_network(start.net, net))
    inherit(net, teacher.net, config.student.teacher_layers)
    return net


def make_objective(config: ImitateRun) -> Objective:
    """The divergence at its temperature, and terms of one's own."""
    o = config.objective
    return Objective(o.divergence, temperature=o.temperature, jacobian_weight=0.0, terms=make_terms(o.terms))
