"""A network as an ONNX file, in float32 or in int8, that says what it plays and sees.

Both take float pixels in [0, 1], (batch, 4, 84, 84), named ``pixels``, and give ``logits``, (batch, A).
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError
from distill.networks.nets import draws_at_play, evaluating
from distill.system.files import write_bytes
from distill.task import Task

PAPERS = "distilled"
"""Key of the file's metadata: game and preset as JSON, as ``student.zip`` has them under that name."""
BATCH = 64
LEVELS = {"scale": np.array(1 / 255, np.float32), "zero_point": np.array(-128, np.int8)}
"""Codes of the pixels: -128 for 0, 127 for 1."""


def require_onnx(what: str, *, run: bool = False) -> None:
    """Refuse early what needs the ``onnx`` extra where it is not installed.

    Args:
        what: the subject of the sentence.
        run: the file is to be run, not only written.

    Raises:
        UserError: saying how to install it.
    """
    try:
        import onnx  # noqa: F401

        if run:
            import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(f'{what} needs the onnx extra: pip install -e ".[onnx]"') from error


def write_onnx(net: nn.Module, path: Path, task: Task) -> None:
    """Write a network in float32.

    Args:
        net: float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A).
        path: file to write.
        task: what it plays and sees.
    """
    write_program(net, {"pixels": torch.zeros(2, *OBS_SHAPE)}, path, _papers(task))


def write_program(net: nn.Module, inputs: Mapping[str, Tensor], path: Path, papers: Mapping[str, Any]) -> None:
    """Write any network in float32.

    Args:
        net: ``inputs``, in their order, to logits, (B, A).
        inputs: examples by name, each of two states.
        path: file to write.
        papers: what the file says of itself, as JSON.

    Raises:
        UserError: the network draws noise at play, which no such file can.
    """
    if draws_at_play(net):
        raise UserError(
            "this student draws noise at play, which an ONNX file cannot; train it with --student.noise_at_play=false, "
            "or export it as sb3 or safetensors"
        )
    batch = torch.export.Dim("batch")
    with evaluating(net), quietly():
        program = torch.onnx.export(
            net,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
    import onnx

    _write(onnx.load(path), path, papers)


def write_int8(net: nn.Module, path: Path, task: Task, states: npt.NDArray[np.uint8]) -> None:
    """Write a network with int8 weights and activations, quantised by onnxruntime (QDQ).

    Weights are symmetric, with a scale for each output channel; activations have a scale and a zero point for each
    tensor, by their range over ``states``. Pixels stay exact: their 256 levels are the 256 codes. Both are signed,
    since products of unsigned and signed bytes may overflow on x86 processors without VNNI.

    Args:
        net: float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A).
        path: file to write.
        task: what it plays and sees.
        states: to calibrate the activations on, uint8 (N, 4, 84, 84); none that it learned from.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, quietly():
        whole, small = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        write_onnx(net, whole, task)
        quantize_static(
            whole,
            small,
            _reader(states),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
            extra_options={
                "WeightSymmetric": True,
                "ActivationSymmetric": False,
                "TensorQuantOverrides": {"pixels": [LEVELS]},
            },
        )
        _write(onnx.load(small), path, _papers(task))


def _papers(task: Task) -> dict[str, str]:
    return {name: getattr(task, name) for name in ("game", "preset", "preset_hash")}


def _write(model: Any, path: Path, papers: Mapping[str, Any]) -> None:
    """Save a model with its papers, and without what tells of the program that made it: a third of a small file."""
    import onnx

    for part in (model.graph, *model.graph.node):
        del part.metadata_props[:]
    del model.graph.value_info[:]
    onnx.helper.set_model_props(model, {PAPERS: json.dumps(papers)})
    write_bytes(path, model.SerializeToString())


def _reader(states: npt.NDArray[np.uint8]) -> Any:
    """States as onnxruntime's calibration asks for them, a few at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._batches = _batches(states)

        def get_next(self) -> Mapping[str, Any] | None:
            return next(self._batches, None)

    return Reader()


def _batches(states: npt.NDArray[np.uint8]) -> Iterator[Mapping[str, Any]]:
    for start in range(0, len(states), BATCH):
        yield {"pixels": states[start : start + BATCH].astype(np.float32) / 255}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without advice to developers: torchvision is not installed, and a model could be prepared (ours is)."""
    loggers = [logging.getLogger(name) for name in (None, "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: batch will not be used")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
