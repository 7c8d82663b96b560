"""``distill export``: a student in other formats, for places without this toolkit."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import UserError, lookup
from distill.system.files import at_home, place_here, refuse_closed, refuse_folder, replacing, sha256
from distill.system.trouble import blaming

if TYPE_CHECKING:
    from distill.students.folder import Student

FORMATS = ("onnx", "int8", "safetensors", "sb3")
FILES = {"safetensors": "model.safetensors", "sb3": "student.zip"}
ENDINGS = {"onnx": ".onnx", "int8": ".onnx", "safetensors": ".safetensors", "sb3": ".zip"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of the command."""
    parser.add_argument("student", help="student's run folder")
    parser.add_argument("--format", default="onnx", help="onnx, int8 (ONNX, quantised), safetensors or sb3")
    parser.add_argument("--out", required=True, help="file to create")


def run(args: argparse.Namespace) -> None:
    """Write one student, or those of several games together.

    Raises:
        UserError: as ``export``, or students of several games in another format than onnx.
    """
    from distill.multitask.onnx import students_of, write_joint_onnx
    from distill.students.folder import load_student
    from teachers.layouts import student_folder

    lookup("format", dict.fromkeys(FORMATS), args.format)
    refuse_folder(args.out, "student.onnx", "--out ")
    place, together = place_here(args.out), students_of(at_home(args.student))
    if not together:
        export(load_student(student_folder(args.student)), args.format, place)
    elif args.format == "onnx":
        _refuse_other_ending(args.format, place)
        write_joint_onnx(together, place)
    else:
        raise UserError(f"{args.student} has a student of each of several games; export one of them, or all as onnx")
    print(f"written: {args.out}")


def export(student: Student, form: str, out: Path) -> None:
    """Write ``student`` to ``out``.

    Args:
        student: a loaded student.
        form: ``onnx`` (float pixels in [0, 1], (batch, 4, 84, 84), to logits), ``int8`` (the same with int8 weights
            and activations, calibrated on states of its own games), ``safetensors`` or ``sb3``.
        out: file to create; an existing one is refused.

    Raises:
        UserError: an unknown format, an existing file, a name that ends like another format, or a student whose files
            are not those that training wrote.
    """
    lookup("format", dict.fromkeys(FORMATS), form)
    _refuse_other_ending(form, out)
    if form == "sb3" and not student.is_described:
        raise UserError(
            f"{student.folder} is of network {student.record.network}, which a program builds, and stable-baselines3 "
            "has no such policy; export it as safetensors or onnx"
        )
    if os.path.lexists(out):
        raise UserError(f"{out} exists; choose another --out")
    refuse_closed(out, "--out ")
    with replacing(out) as temporary:
        if form == "onnx":
            _onnx(student, temporary)
        elif form == "int8":
            _int8(student, temporary)
        else:
            _copy(student, FILES[form], temporary)


def _refuse_other_ending(form: str, out: Path) -> None:
    meant = [name for name, ending in ENDINGS.items() if ending == out.suffix.lower()]
    if meant and form not in meant:
        other = f"give --format={meant[0]}, or a name that ends in {ENDINGS[form]}"
        raise UserError(f"--out {out} ends like {meant[0]}, but --format is {form}; {other}")


def _copy(student: Student, name: str, copy: Path) -> None:
    """Copy a file of the student's; a zip that is lost is written anew from the weights, which were checked."""
    source = student.folder / name
    if name == FILES["sb3"] and not source.exists():
        from distill.networks.nets import described
        from distill.students.folder import save_student_zip

        assert described(student.net)
        save_student_zip(student.net, student.task, copy)
        return
    shutil.copyfile(source, copy)
    _check(student, name, copy)


def _check(student: Student, name: str, copy: Path) -> None:
    """Refuse a copy that is not the file that training wrote.

    Students of earlier versions have no checksums: their zip must load and hold the student's weights.
    """
    damaged = f"{student.folder / name} is damaged; restore it from a copy, or train the student again"
    expected = student.record.sha256.get(name)
    if expected is not None:
        if sha256(copy) != expected:
            raise UserError(damaged)
    elif name == FILES["sb3"]:
        from distill.networks.weights import fingerprint
        from teachers.formats.sb3 import load_sb3_zip

        try:
            found = load_sb3_zip(copy).state
        except UserError as error:
            raise UserError(f"{damaged} ({error})") from error
        if fingerprint(dict(found)) != student.record.fingerprint:
            raise UserError(damaged)


def _onnx(student: Student, path: Path) -> None:
    from distill.students.onnx_file import require_onnx, write_onnx

    require_onnx("ONNX export")
    with _naming(student):
        write_onnx(student.net, path, student.task)


def _int8(student: Student, path: Path) -> None:
    from distill.agents.own_states import STATES, match_of, own_states
    from distill.students.onnx_file import require_onnx, write_int8

    require_onnx("int8 export", run=True)
    states = own_states(match_of(student), STATES, seed=0)
    with _naming(student):
        write_int8(student.net, path, student.task, states)


def _naming(student: Student) -> contextlib.AbstractContextManager[None]:
    """A network that somebody's program builds may have what PyTorch cannot export."""
    if student.is_described:
        return contextlib.nullcontext()
    what = f"{student.folder} is of network {student.record.network}, which PyTorch cannot export to ONNX"
    return blaming(what, "export it as safetensors")
