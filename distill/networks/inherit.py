"""First layers that a student has from its teacher, as they are.

A small network on a teacher's first layer comes closer to that teacher than one that learns it (docs/concepts.md).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.networks.nets import described

FLAG = "--student.teacher_layers"


def inherit(student: nn.Module, teacher: nn.Module, layers: int) -> None:
    """Give the student the teacher's first convolutions, which its training then leaves alone.

    A convolution of fewer channels gets those filters of the teacher's whose norm, times that of the next layer's
    weights on them, is largest.

    Args:
        student: fresh, (B, 4, 84, 84) to logits; changed in place.
        teacher: as many convolutions at least, with the same kernels and strides.
        layers: how many; 0 leaves the student as it is.

    Raises:
        UserError: they do not fit.
    """
    if layers == 0:
        return
    own, theirs = _convolutions(student, "the student"), _convolutions(teacher, "its teacher")
    if layers > min(len(own), len(theirs)):
        raise UserError(
            f"{FLAG}={layers}, but the student has {len(own)} convolutions and its teacher {len(theirs)}; take fewer"
        )
    assert described(teacher)
    above = [layer.weight for layer in teacher.path() if isinstance(layer, nn.Conv2d | nn.Linear)][1:]
    seen = torch.arange(own[0].in_channels)
    for number, (mine, other, next_weight) in enumerate(zip(own[:layers], theirs, above, strict=False), 1):
        _refuse_other_shape(number, mine, other)
        kept = strongest(other, next_weight.flatten(1), mine.out_channels)
        with torch.no_grad():
            mine.weight.copy_(other.weight[kept][:, seen])
            if mine.bias is not None:
                mine.bias.copy_(torch.zeros_like(mine.bias) if other.bias is None else other.bias[kept])
        mine.requires_grad_(False)
        seen = kept


def refuse_other_eyes(teacher: str, student: str) -> None:
    """Refuse layers of a teacher that sees another preset than the student.

    Raises:
        UserError: it does.
    """
    if teacher != student:
        raise UserError(
            f"{FLAG}: the teacher sees preset {teacher} and the student {student}, so its layers are of other pixels; "
            "leave it at 0"
        )


def refuse_start(layers: int, start: str | None, flag: str) -> None:
    """Refuse a teacher's layers in a student that begins as another agent, which the setting ``flag`` names.

    Raises:
        UserError: both are asked for.
    """
    if layers and start is not None:
        raise UserError(f"{FLAG} is of a fresh student, and {flag} names one; leave one out")


def strongest(layer: nn.Conv2d, above: Tensor, count: int) -> Tensor:
    """Numbers of the filters that weigh most, in the layer's order: int64 (count,).

    Args:
        layer: (O, I, k, k).
        above: the next layer's weights, (P, O * n): n inputs for every channel.
        count: how many.
    """
    size = layer.weight.detach().flatten(1).norm(dim=1)
    size = size * above.detach().view(len(above), layer.out_channels, -1).norm(dim=(0, 2))
    kept: Tensor = size.argsort(descending=True, stable=True)[:count].sort().values
    return kept


def _convolutions(net: nn.Module, whose: str) -> list[nn.Conv2d]:
    if not described(net):
        raise UserError(f"{FLAG}: {whose} is a network that is not described by its layers; leave it at 0")
    convolutions = list(itertools.islice(net.features, 0, 2 * len(net.spec.convs), 2))  # with activations between them
    if not all(type(layer) is nn.Conv2d for layer in convolutions):
        raise UserError(f"{FLAG}: {whose} has convolutions with noise or a band limit; leave it at 0")
    return convolutions  # type: ignore[return-value]  # as was just asked


def _refuse_other_shape(number: int, mine: nn.Conv2d, other: nn.Conv2d) -> None:
    shapes = [(conv.kernel_size, conv.stride) for conv in (mine, other)]
    if shapes[0] != shapes[1] or mine.out_channels > other.out_channels:
        has, wanted = (f"{conv.out_channels} x {conv.kernel_size[0]}/{conv.stride[0]}" for conv in (mine, other))
        raise UserError(
            f"{FLAG}: convolution {number} of the student (channels x kernel/stride) is {has} and its teacher's "
            f"{wanted}; choose --student.convs of its kernels and strides, with no more channels"
        )
