"""Agents as ONNX files, run by onnxruntime: what ``distill export`` writes, in float32 or in int8, and any other.

One input, float pixels in [0, 1], (batch, 4, 84, 84); one output, logits (batch, A). Such an agent plays and labels,
but has no derivatives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError, first_line
from distill.students.onnx_file import PAPERS, require_onnx
from teachers.formats.format import LoadedPolicy, TeacherFormat
from teachers.formats.torch_file import MAX_BYTES, more_than

SUFFIX = ".onnx"
CODES = ("QuantizeLinear", "DequantizeLinear")
"""Operations whose second and third inputs are a scale and a zero point, which are no weights."""


class OnnxPolicy(nn.Module):
    """Float pixels in [0, 1], (B, 4, 84, 84), to logits, (B, A), by onnxruntime on the CPU.

    Args:
        path: the file, for messages.
        model: its content, an ``onnx.ModelProto``.
    """

    def __init__(self, path: Path, model: Any) -> None:
        super().__init__()
        import onnxruntime

        self.file = path
        # Two threads of an evaluation share the cores, and threads that wait must not starve the emulators.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, torch.get_num_threads() // 2)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        inputs = [one.name for one in self._session.get_inputs()]
        if len(inputs) > 1:
            raise UserError(
                f"{path} has inputs {', '.join(inputs)}, and an agent has one, pixels; of a student of several games "
                "name the run of one game, or export that by itself"
            )
        (self._input,), (self._output,) = self._session.get_inputs(), self._session.get_outputs()
        weights, rest = _arrays(model)
        self.weights = nn.ParameterList(nn.Parameter(array, requires_grad=False) for array in weights)
        for number, array in enumerate(rest):
            self.register_buffer(f"scale_{number}", array)

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, A).

        Raises:
            UserError: derivatives are asked for.
        """
        if x.requires_grad:
            raise UserError(
                f"{self.file} is an ONNX file, which has no derivatives; ask for none (--collect.jacobian=none)"
            )
        (logits,) = self._session.run([self._output.name], {self._input.name: x.float().cpu().numpy()})
        return torch.from_numpy(logits).to(x.device)


def load_onnx(path: Path) -> LoadedPolicy:
    """The policy in an ONNX file.

    Raises:
        UserError: missing, damaged or foreign file, one of other inputs and outputs, or no onnxruntime here.
    """
    require_onnx(f"{path}: to play an ONNX file", run=True)
    import onnx

    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path} has {more_than(size, MAX_BYTES)}; refusing it")
        model = onnx.load(path, load_external_data=False)
        net = OnnxPolicy(path, model)
        logits = net(torch.zeros(2, *OBS_SHAPE))
    except UserError:
        raise
    except Exception as error:  # onnxruntime's have no class in common
        raise UserError(
            f"{path} is no ONNX file of an agent, from float pixels (batch, 4, 84, 84) to logits (batch, A) "
            f"({type(error).__name__}: {first_line(error)}); export it again"
        ) from error
    if logits.dim() != 2 or len(logits) != 2 or not logits.isfinite().all():
        raise UserError(f"{path} gives {tuple(logits.shape)} for two states, not finite logits (2, A)")
    return LoadedPolicy(net, "student" if told(path) else "ONNX", logits.shape[1])


def told(path: Path) -> Mapping[str, Any]:
    """Game and preset of a student, where the file tells them."""
    try:
        import onnx

        for entry in onnx.load(path, load_external_data=False).metadata_props:
            papers = json.loads(entry.value) if entry.key == PAPERS else None
            if isinstance(papers, dict) and papers.get("game"):
                return {"student": papers}
    except Exception:
        pass  # whoever reads it says what is wrong
    return {}


def _arrays(model: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Weights, and all other arrays of numbers: scales, zero points, shapes.

    Some exporters write weights as constants; without them two agents would have one fingerprint.
    """
    from onnx import numpy_helper

    apart = {name for node in model.graph.node if node.op_type in CODES for name in node.input[1:]}
    weights: list[Tensor] = []
    rest: list[Tensor] = []
    constants = [(node.output[0], one.t) for node in model.graph.node if node.op_type == "Constant"
                 for one in node.attribute if one.name == "value"]  # fmt: skip
    for name, one in [*((one.name, one) for one in model.graph.initializer), *constants]:
        array = torch.from_numpy(numpy_helper.to_array(one).copy())
        is_weight = name not in apart and array.dtype != torch.int64  # shapes
        (weights if is_weight else rest).append(array)
    return weights, rest


FORMAT = TeacherFormat(
    "onnx",
    recognises=lambda path: path.suffix == SUFFIX,
    read=lambda path, tau, card: load_onnx(path),
    suffix=SUFFIX,
    told=told,
    files="`.onnx`",
    agents="what `distill export` writes, float32 or int8, and others from pixels to logits; they play and label only",
)
