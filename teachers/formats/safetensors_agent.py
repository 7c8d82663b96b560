"""Agents of other libraries as plain tensors: ``convs.N``, ``dense.N``, ``policy`` and perhaps ``value``.

Each has ``weight`` and ``bias`` in PyTorch's layout; there is no padding, and what follows each layer but the heads is
ReLU. Strides are told by ``strides`` in the file's metadata or on its card, such as ``strides: [4, 2]``; where neither
tells, those of a network that is known by its convolutions' shapes are taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from distill.errors import UserError, first_line
from distill.networks.nets import NETS, NetSpec
from teachers.formats.format import LoadedPolicy, TeacherFormat
from teachers.formats.rebuild import build
from teachers.formats.torch_file import MAX_BYTES, State, checked

LAYER = re.compile(r"(?:(convs|dense)\.(\d{1,3})|policy|value)\.(?:weight|bias)")


def load_safetensors(path: Path, card: Mapping[str, Any]) -> LoadedPolicy:
    """Rebuild the policy network of a ``.safetensors`` file.

    Args:
        path: the file.
        card: front matter of its card.

    Raises:
        UserError: missing, damaged or foreign file, or a network that this format does not describe.
    """
    tensors, metadata = _read(path)
    convs, dense = (_numbers(path, tensors, kind) for kind in ("convs", "dense"))
    heads = ["policy", *(["value"] if any(name.startswith("value.") for name in tensors) else [])]
    for name in (*(f"convs.{n}" for n in convs), *(f"dense.{n}" for n in dense), *heads):
        _check_layer(path, tensors, name, 4 if name.startswith("convs") else 2)
    shapes = [tuple(tensors[f"convs.{n}.weight"].shape) for n in convs]
    strides = _strides(path, shapes, metadata.get("strides", card.get("strides")))
    hidden = tuple(len(tensors[f"dense.{n}.weight"]) for n in dense)
    spec = NetSpec(tuple((s[0], s[2], stride) for s, stride in zip(shapes, strides, strict=True)), hidden)
    state: State = {}
    for part in ("weight", "bias"):
        # An activation follows each layer, and nn.Flatten takes a place of its own after the convolutions.
        state |= {f"features.{2 * n}.{part}": tensors[f"convs.{n}.{part}"] for n in convs}
        state |= {f"features.{2 * (len(convs) + n) + 1}.{part}": tensors[f"dense.{n}.{part}"] for n in dense}
        state |= {f"{head}.{part}": tensors[f"{head}.{part}"] for head in heads}
    net = build(path, spec, state)
    return LoadedPolicy(net, "policy" if net.value is None else "actor-critic", net.num_actions, None, state)


def _read(path: Path) -> tuple[State, dict[str, str]]:
    """float32 tensors of finite numbers by name, and the file's metadata."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES >> 20} MiB; refusing it")
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({first_line(error)}); copy it again") from error
    if any(name.startswith("features.") for name in tensors):
        raise UserError(
            f"{path} holds a student's weights alone, as `distill export --format safetensors` writes them: nothing in "
            "it tells strides and activations; give the student's run folder, or export it with --format sb3"
        )
    unknown = sorted(name for name in tensors if not LAYER.fullmatch(name))
    if unknown or "policy.weight" not in tensors:
        raise UserError(
            f"{path} is not an agent of this format, which has convs.N, dense.N, policy and value, each with weight "
            f"and bias; it has {', '.join(unknown[:3] or sorted(tensors)[:3]) or 'nothing'}"
        )
    return checked(path, tensors, "the file"), metadata


def _numbers(path: Path, tensors: State, kind: str) -> list[int]:
    """0, 1, ... of the layers ``kind.0``, ``kind.1``, ..."""
    found = sorted({int(m[2]) for m in map(LAYER.fullmatch, tensors) if m and m[1] == kind})
    if found != list(range(len(found))) or (kind == "convs" and not found):
        raise UserError(f"{path}: its layers {kind} are {found}, but must be 0, 1, ... without a gap")
    return found


def _check_layer(path: Path, tensors: State, name: str, dims: int) -> None:
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None or bias is None:
        raise UserError(f"{path}: {name} lacks its weight or bias")
    if weight.dim() != dims or bias.shape != weight.shape[:1] or (dims == 4 and weight.shape[2] != weight.shape[3]):
        raise UserError(f"{path}: {name} has a weight of shape {tuple(weight.shape)} and a bias of {tuple(bias.shape)}")


def _strides(path: Path, shapes: list[tuple[int, ...]], told: Any) -> list[int]:
    """Strides of convolutions of these shapes, as told, else those of a network that is known."""
    if told is not None:
        digits = re.findall(r"\d+", str(told))
        if not re.fullmatch(r"\[?\s*\d+(\s*,\s*\d+)*\s*\]?", str(told)) or len(digits) != len(shapes) or "0" in digits:
            raise UserError(f"{path}: strides must be {len(shapes)} positive numbers, such as [4, 2], got {told!r}")
        return [int(digit) for digit in digits]
    sizes = [(shape[0], shape[2]) for shape in shapes]
    for name in ("mnih2013", "nature"):
        if [conv[:2] for conv in NETS[name].convs] == sizes:
            return [conv[2] for conv in NETS[name].convs]
    raise UserError(
        f"{path}: nothing tells the strides of its convolutions; write them on its card "
        f"{path.with_suffix('.md').name}, such as `strides: {[1] * len(shapes)}` between two lines of ---"
    )


FORMAT = TeacherFormat(
    "safetensors",
    recognises=lambda path: path.suffix == ".safetensors",
    read=lambda path, tau, card: load_safetensors(path, card),
    suffix=".safetensors",
    files="`.safetensors`",
    agents="[plain tensors](presets.md#agents-as-plain-tensors)",
)
