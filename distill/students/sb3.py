"""Students as stable-baselines3 citizens: ``PPO.load("student.zip")`` gives the same logits, without this toolkit.

A network that SB3's own NatureCNN and ``net_arch`` can express is saved as one. Any other needs an extractor class of
ours: the zip carries its source text, which the Python that loads it compiles. (cloudpickle would store bytecode, which
only the same Python version runs, and a reference to our module, as earlier versions had it, needs our module.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from torch import nn

from distill.envs.presets import OBS_SHAPE
from distill.networks import parts
from distill.networks.layers.layer import Activation, activations
from distill.networks.nets import NETS, AtariCNN, NetSpec
from distill.students import extractor
from distill.students.extractor import StudentExtractor
from distill.system.files import in_memory, write_bytes

__all__ = ["StudentExtractor", "save_sb3_zip"]  # zips of earlier versions look for the class here

MODULE = "student_extractor"  # nowhere to be imported, so SB3 carries the class on when it saves the agent again
extractor.ACTIVATIONS.update({name: activation.module for name, activation in activations().items()})
extractor.MAKERS.update({"convolution": parts.make_convolution, "dense": parts.make_dense})


class _Carried:
    """Pickles as an expression that makes ``StudentExtractor`` from its source, and that of its activations.

    Args:
        spec: of the student.
    """

    def __init__(self, spec: NetSpec) -> None:
        names = dict.fromkeys((spec.activation, spec.extra_activation or spec.activation))
        self._activations = [activations()[name] for name in names]
        self._own = bool(spec.options())

    def __reduce__(self) -> tuple[Any, ...]:
        texts = [_file(extractor), *map(_text, self._activations)]
        if self._own:
            texts += [_file(parts), 'MAKERS.update({"convolution": make_convolution, "dense": make_dense})\n']
        source = "\n\n".join(texts)
        made = f"(lambda space: exec({source!r}, space) or space['StudentExtractor'])"
        return eval, (f"{made}({{'__name__': {MODULE!r}}})",)

    def __repr__(self) -> str:
        return f"<class '{MODULE}.StudentExtractor'>"  # what SB3 writes beside the pickle in plain text

    def __call__(self, *args: Any, **kwargs: Any) -> StudentExtractor:
        extractor.ACTIVATIONS.update({activation.name: activation.module for activation in self._activations})
        return StudentExtractor(*args, **kwargs)


def _file(module: Any) -> str:
    return Path(module.__file__).read_text(encoding="utf-8")


def _text(activation: Activation) -> str:
    """Python that puts an activation where the extractor looks for it, given PyTorch alone."""
    return f"{activation.text}\n\nACTIVATIONS[{activation.name!r}] = {activation.module.__name__}\n"


def save_sb3_zip(net: AtariCNN, path: Path, papers: Mapping[str, Any] | None = None) -> None:
    """Write ``net`` as an SB3 PPO zip; its value head is zero where the student has none.

    Args:
        net: the student.
        path: file to write or replace.
        papers: plain values that tell what it is (game, preset); they stand under ``distilled`` in the zip's ``data``.
    """
    model = PPO("CnnPolicy", None, device="cpu", n_steps=2, batch_size=2, _init_setup_model=False)  # type: ignore[arg-type]
    model.observation_space = gym.spaces.Box(0, 255, OBS_SHAPE, np.uint8)
    model.action_space = gym.spaces.Discrete(net.num_actions)
    model.n_envs = 1
    model.policy_kwargs = _policy_kwargs(_played(net.spec))
    model._setup_model()
    _copy(net, model.policy)
    model.distilled = dict(papers or {})  # type: ignore[attr-defined]  # SB3 saves every attribute
    write_bytes(path, in_memory(model.save))


def _played(spec: NetSpec) -> NetSpec:
    """The same without noise that is there in training only."""
    return spec if spec.draws_at_play else replace(spec, noise=None, noise_on="weights", noise_at_play=True)


def _policy_kwargs(spec: NetSpec) -> dict[str, Any]:
    """How SB3 is to build the network."""
    extra = activations()[spec.extra_activation or spec.activation]
    plain = spec.activation == "relu" and extra.is_torchs and not spec.options()
    if not plain or spec.convs != NETS["nature"].convs or not spec.hidden:
        return {
            "features_extractor_class": _Carried(spec),
            "features_extractor_kwargs": {"spec": spec.to_dict()},
            "net_arch": [],
        }
    width, *more = spec.hidden
    return {
        "features_extractor_kwargs": {"features_dim": width},
        "net_arch": {"pi": more, "vf": []},
        "activation_fn": extra.module,
    }


def _copy(net: AtariCNN, policy: Any) -> None:
    """Put the student's weights into SB3's policy, and zeros where it has none."""
    theirs = [*_affine(policy.features_extractor), *_affine(policy.mlp_extractor.policy_net), policy.action_net]
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    for mine, layer in zip(_affine(net.path()), theirs, strict=True):
        has = layer.state_dict()
        layer.load_state_dict({name: value for name, value in mine.state_dict().items() if name in has})
    if net.value is not None and not len(policy.mlp_extractor.policy_net):  # both heads read the same features
        policy.value_net.load_state_dict(net.value.state_dict())


def _affine(module: nn.Module) -> list[nn.Module]:
    """Convolutions and dense layers, from pixels up."""
    kinds = nn.Conv2d | nn.Linear | parts.BandLimited2d
    return [layer for layer in module.modules() if isinstance(layer, kinds)]
