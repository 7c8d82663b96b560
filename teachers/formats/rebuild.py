"""From named tensors to ``AtariCNN``: what the readers of several formats share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec
from teachers.formats.torch_file import State

NATURE_STRIDES = {8: 4, 4: 2, 3: 1}


class Weights:
    """Named tensors of one file, taken out by name so that nothing is overlooked."""

    def __init__(self, path: Path, tensors: State) -> None:
        self.path, self.tensors, self.left = path, tensors, set(tensors)

    def under(self, prefix: str) -> list[str]:
        """Names that begin with ``prefix``."""
        return [name for name in self.tensors if name.startswith(prefix)]

    def take(self, name: str) -> Tensor:
        """The tensor of this name, which counts as taken; a UserError where there is none."""
        if name not in self.tensors:
            raise UserError(f"{self.path}: parameter {name} is missing; the file is damaged or from another network")
        self.left.discard(name)
        return self.tensors[name]

    def layers(self, prefix: str) -> list[str]:
        """``prefix.0``, ``prefix.2``, ... in the order of an nn.Sequential."""
        pattern = re.compile(rf"{re.escape(prefix)}\.(\d{{1,3}})\.(?:weight|bias)")
        return [f"{prefix}.{n}" for n in sorted({int(m[1]) for m in map(pattern.fullmatch, self.tensors) if m})]

    def check_all_taken(self, *copies: str) -> None:
        """Refuse a file that holds more than was taken and the ``copies``, by their first letters."""
        left = sorted(name for name in self.left if not name.startswith(copies))
        if left:
            raise UserError(f"{self.path}: parameters {', '.join(left[:3])} fit no network this toolkit knows")


def nature_convs(path: Path, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[int, int, int], ...]:
    """(channels, kernel, stride) of convolutions with weights of these shapes, whose kernels tell NatureCNN's strides.

    Raises:
        UserError: a kernel that is none of NatureCNN's.
    """
    for shape in shapes:
        if shape[2] not in NATURE_STRIDES or shape[2] != shape[3]:
            raise UserError(f"{path}: a convolution of shape {shape} is not one of NatureCNN's")
    return tuple((shape[0], shape[2], NATURE_STRIDES[shape[2]]) for shape in shapes)


def build(path: Path, spec: NetSpec, state: State) -> AtariCNN:
    """A network of these parameters; UserError where they do not fit 4 stacked 84x84 frames."""
    # On the meta device nothing is allocated or drawn: shapes are checked first, then tensors assigned.
    try:
        with torch.device("meta"):
            net = AtariCNN(spec, len(state["policy.bias"]), value="value.weight" in state)
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: its shapes do not fit 4 stacked 84x84 frames ({detail})") from error
    return net
