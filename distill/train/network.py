"""What the network in training is called, in a run's folder, papers and printed lines."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from distill.networks.nets import NETS, described
from distill.networks.parts import Noise
from distill.networks.registry import NETWORKS, name_of
from distill.networks.settings import StudentConfig
from distill.system.registry import is_dotted
from distill.train.settings import TrainRun


def named_after(config: TrainRun, net: nn.Module) -> TrainRun:
    """The settings of a training of ``net``, whose name they then give: its class's, or a known network's."""
    return dataclasses.replace(config, student=settings_of(net))


def settings_of(net: nn.Module) -> StudentConfig:
    """Settings that describe a network, under its class's name or a known network's."""
    if not described(net):
        return StudentConfig(name=type(net).__name__)
    spec = net.spec
    known = [name for name, other in NETS.items() if (other.convs, other.hidden) == (spec.convs, spec.hidden)]
    options: dict[str, Any] = {"band_limit": list(spec.band_limit)} if spec.band_limit else {}
    if spec.noise is not None:
        options |= {"noise": spec.noise, "noise_on": spec.noise_on, "noise_at_play": spec.noise_at_play}
    if known:
        return StudentConfig(name=known[0], activation=spec.activation, **options)
    return StudentConfig(type(net).__name__, list(spec.convs), list(spec.hidden), spec.activation, **options)


def network_name(config: TrainRun, net: nn.Module, num_actions: int) -> str | None:
    """The name that ``build_network`` builds ``net`` again by: the one in the settings, or its class's; None for none.

    A network that was handed over is called after its class in the settings, which is no such name.
    """
    if described(net):
        return None
    name = config.student.name
    return name if is_dotted(name) or name in NETWORKS else name_of(net, num_actions)


def network_text(student: StudentConfig) -> str:
    """The network's name, with the layers that replace its own: ``mnih2013, convs 4x8/4, hidden 16, tanh``."""
    parts = [student.name]
    if student.convs is not None:
        parts.append("convs " + " ".join(f"{channels}x{kernel}/{stride}" for channels, kernel, stride in student.convs))
    if student.hidden is not None:
        parts.append("hidden " + (" ".join(map(str, student.hidden)) or "none"))
    parts += [student.activation] if student.activation != "relu" else []
    cuts = student.band_limit if isinstance(student.band_limit, list) else [student.band_limit]
    parts += ["band limit " + " ".join(f"{cut:g}" for cut in cuts)] if any(cuts) else []
    if student.noise != "none":
        parts.append(f"{student.noise} noise on {student.noise_on}{' at play' if student.noise_at_play else ''}")
    if student.teacher_layers:
        count = student.teacher_layers
        parts.append("the teacher's first " + ("convolution" if count == 1 else f"{count} convolutions"))
    return ", ".join(parts)


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters for AdamW: what says how large noise is does not decay."""
    noise = {id(part) for module in net.modules() if isinstance(module, Noise) for part in module.parameters()}
    parameters = list(net.parameters())
    groups = [{"params": [part for part in parameters if id(part) not in noise], "weight_decay": weight_decay}]
    if noise:
        groups.append({"params": [part for part in parameters if id(part) in noise], "weight_decay": 0.0})
    return groups
