"""``distill export``: a student in other formats, for places without this toolkit."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from distill.errors import UserError, nearest
from distill.files import replacing
from distill.students.folder import Student
from distill.students.nets import OBS_SHAPE

FORMATS = ("onnx", "safetensors", "sb3")


def export(student: Student, form: str, out: Path) -> None:
    """Write ``student`` to ``out``.

    Args:
        student: a loaded student.
        form: ``onnx`` (float pixels in [0, 1], (batch, 4, 84, 84), to logits), ``safetensors`` or ``sb3``.
        out: file to create; an existing one is refused.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}{nearest(form, FORMATS)}; known: {', '.join(FORMATS)}")
    if out.exists():
        raise UserError(f"{out} exists; choose another --out")
    with replacing(out) as temporary:
        if form == "onnx":
            _onnx(student, temporary)
        else:
            shutil.copyfile(
                student.folder / {"safetensors": "model.safetensors", "sb3": "student.zip"}[form], temporary
            )


def _onnx(student: Student, path: Path) -> None:
    try:
        import onnx  # noqa: F401  # only to tell early that the extra is missing
    except ImportError as error:
        raise UserError('ONNX export needs the onnx extra: pip install -e ".[onnx]"') from error
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        student.net,
        (torch.zeros(2, *OBS_SHAPE),),
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: batch},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
