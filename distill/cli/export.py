"""``distill export``: a student in other formats, for places without this toolkit."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError, first_line, nearest
from distill.networks.weights import fingerprint
from distill.students.folder import Student
from distill.system.files import replacing, sha256

FORMATS = ("onnx", "safetensors", "sb3")
FILES = {"safetensors": "model.safetensors", "sb3": "student.zip"}


def export(student: Student, form: str, out: Path) -> None:
    """Write ``student`` to ``out``.

    Args:
        student: a loaded student.
        form: ``onnx`` (float pixels in [0, 1], (batch, 4, 84, 84), to logits), ``safetensors`` or ``sb3``.
        out: file to create; an existing one is refused.

    Raises:
        UserError: an unknown format, an existing file, or a student whose files are not those that training wrote.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}{nearest(form, FORMATS)}; known: {', '.join(FORMATS)}")
    if form == "sb3" and not student.is_described:
        raise UserError(
            f"{student.folder} is of network {student.record.network}, which a program builds, and stable-baselines3 "
            "has no such policy; export it as safetensors or onnx"
        )
    if out.exists():
        raise UserError(f"{out} exists; choose another --out")
    with replacing(out) as temporary:
        if form == "onnx":
            _onnx(student, temporary)
        else:
            shutil.copyfile(student.folder / FILES[form], temporary)
            _check(student, FILES[form], temporary)


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
        from teachers.formats.sb3 import load_sb3_zip

        try:
            found = load_sb3_zip(copy).state
        except UserError as error:
            raise UserError(f"{damaged} ({error})") from error
        if fingerprint(dict(found)) != student.fingerprint:
            raise UserError(damaged)


def _onnx(student: Student, path: Path) -> None:
    try:
        import onnx  # noqa: F401  # only to tell early that the extra is missing
    except ImportError as error:
        raise UserError('ONNX export needs the onnx extra: pip install -e ".[onnx]"') from error
    batch = torch.export.Dim("batch")
    try:
        program = torch.onnx.export(
            student.net,
            (torch.zeros(2, *OBS_SHAPE),),
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    except Exception as error:
        if student.is_described:
            raise
        raise UserError(
            f"{student.folder} is of network {student.record.network}, which PyTorch cannot export to ONNX "
            f"({type(error).__name__}: {first_line(error)}); export it as safetensors"
        ) from error
    assert program is not None
    program.save(str(path), external_data=False)
