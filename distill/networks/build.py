"""The network that settings describe."""

from __future__ import annotations

import dataclasses

from torch import nn

from distill.networks.layers.layer import activations, check_text
from distill.networks.nets import AtariCNN, NetSpec
from distill.networks.registry import build_network, find_network
from distill.networks.settings import StudentConfig


def student_spec(student: StudentConfig) -> NetSpec:
    """The layers that the settings describe: those of the named network, but for what is asked for."""
    named = find_network(student.name)
    assert isinstance(named, NetSpec)
    convs = named.convs if student.convs is None else tuple((int(c), int(k), int(s)) for c, k, s in student.convs)
    asked = student.options(len(convs))
    if student.hidden is not None:
        asked["hidden"] = tuple(student.hidden)
    if student.activation != StudentConfig.activation:
        asked |= {"activation": student.activation, "extra_activation": None}
    return dataclasses.replace(named, convs=convs, **asked)


def build_student(student: StudentConfig, num_actions: int) -> nn.Module:
    """The network that the settings describe, with fresh weights."""
    if isinstance(find_network(student.name), NetSpec):
        spec = student_spec(student)
        for name in {spec.activation, spec.extra_activation or spec.activation} & set(activations()):
            check_text(activations()[name])
        return AtariCNN(spec, num_actions)
    return build_network(student.name, num_actions)
