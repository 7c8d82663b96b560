"""What an SB3 agent's ``data`` says of its network in plain text, and the refusal of what we cannot rebuild.

SB3 pickles every value that JSON does not know, and writes the first level of what is in it beside the pickle as text,
classes as ``<class 'module.Name'>``. That text is all that is read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.envs.presets import OBS_SHAPE
from distill.errors import UserError
from distill.networks.layers.layer import activations

NATURE = "<class 'stable_baselines3.common.torch_layers.NatureCNN'>"
STUDENTS = ("<class 'student_extractor.StudentExtractor'>", "<class 'distill.students.sb3.StudentExtractor'>")
"""Extractors of ``student.zip``, now and in earlier versions."""
POLICIES = {
    "stable_baselines3.common.policies": ("Tanh", "ActorCriticCnnPolicy", "ActorCriticPolicy"),
    "stable_baselines3.dqn.policies": ("ReLU", "CnnPolicy", "DQNPolicy"),
    "sb3_contrib.qrdqn.policies": ("ReLU", "CnnPolicy", "QRDQNPolicy"),
}
"""By module: the default activation of extra dense layers, the policy of images, and the one of anything."""
REASONS = {
    "sb3_contrib.common.recurrent.policies": "it remembers what it saw (LSTM), and agents here see four frames",
    "sb3_contrib.common.maskable.policies": "it was trained under a mask of allowed actions, which the games here lack",
    "sb3_contrib.ars.policies": "it has no convolutions",
}
FRAMES = "agents here see four gray 84x84 frames, uint8 from 0 to 255 (AtariWrapper and VecFrameStack(4))"


@dataclass(frozen=True)
class Described:
    """What the plain text tells; None where it does not."""

    activation: str | None = None
    """Activation of dense layers after the first, by its name in PyTorch."""
    net_arch: tuple[int, ...] | None = None
    """Widths of those of the policy."""
    spec: dict[str, Any] | None = None
    """Our own students: ``NetSpec.to_dict()``."""
    papers: dict[str, Any] | None = None
    """Our own students: game and preset."""
    actions: int | None = None
    """Number of actions."""
    quantiles: int | None = None
    """Number of quantiles of QR-DQN."""
    trpo: bool = False
    """Trained by TRPO, whose weights are those of PPO."""


def describe(path: Path, fields: dict[str, Any]) -> Described:
    """Read the plain fields of ``data``.

    Raises:
        UserError: they tell of a network, or of observations, that cannot be rebuilt or played; the field is named.
    """
    given = fields.get("policy_kwargs")
    kwargs: dict[str, Any] = given if isinstance(given, dict) else {}
    default = _check_policy(path, fields.get("policy_class"), kwargs)
    spec = _check_extractor(path, kwargs)
    for name, holder in (("use_sde", fields), ("use_sde", kwargs), ("squash_output", kwargs)):
        if _is(holder.get(name), True):
            raise UserError(f"{path}: it was made with {name}=True, which is for continuous actions")
    normalizes = kwargs.get("normalize_images", True)
    if str(normalizes) not in ("True", "1"):  # 0 is false, too, and what is pickled may be
        told = "False" if str(normalizes) in ("False", "0", "None") else "a value that its plain text does not tell"
        raise UserError(f"{path}: it was made with normalize_images={told}, so it expects pixels we do not feed it")
    _check_observations(path, fields.get("observation_space"))
    actions = _check_actions(path, fields.get("action_space"))
    activation = kwargs.get("activation_fn")
    if activation is None and isinstance(given, dict):
        activation = default
    papers, quantiles = fields.get("distilled"), fields.get("n_quantiles")
    return Described(
        activation=None if activation is None else _class_name(activation),
        net_arch=_widths(kwargs.get("net_arch")),
        spec=spec,
        papers=papers if isinstance(papers, dict) else None,
        actions=actions,
        quantiles=quantiles if isinstance(quantiles, int) else None,
        trpo="cg_max_steps" in fields,
    )


def extra_activation(path: Path, described: Described, widths: tuple[int, ...]) -> str:
    """Our name for the activation of extra dense layers with these widths.

    Raises:
        UserError: it is not told, or one we do not have, or the weights have other layers than ``net_arch`` tells.
    """
    if described.net_arch is not None and described.net_arch != widths:
        raise UserError(
            f"{path}: its net_arch tells of dense layers {list(described.net_arch)} but its weights hold "
            f"{list(widths)}; the file is damaged"
        )
    if described.activation is None:
        raise UserError(
            f"{path}: its policy has extra dense layers (net_arch), and what would tell their activation, the member "
            "`data` of stable-baselines3's zip, is missing or damaged; save it again with stable-baselines3"
        )
    known = {activation.module.__name__: name for name, activation in activations().items() if activation.is_torchs}
    if described.activation not in known:
        raise UserError(
            f"{path}: its activation_fn is {described.activation}; of the extra dense layers (net_arch) only "
            f"{', '.join(known)} are supported"
        )
    return known[described.activation]


def _is(value: Any, truth: bool) -> bool:
    return str(value) == str(truth)


def _class_name(text: Any) -> str:
    """``ReLU`` for PyTorch's own class; a stranger's keeps its module, so that it is not taken for PyTorch's."""
    match = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", str(text))
    return match[1] if match else str(text)


def _check_policy(path: Path, policy: Any, kwargs: dict[str, Any]) -> str | None:
    """Refuse a policy class that is not SB3's own; return its default activation."""
    module = policy.get("__module__") if isinstance(policy, dict) else None
    if not isinstance(module, str):
        return None
    match = re.match(r"<function (\w+)\.__init__", str(policy.get("__init__")))
    name = f"{module}.{match[1]}" if match else f"a class of {module}"
    if module not in POLICIES:
        reason = REASONS.get(module, "it may compute something else with the same weights")
        raise UserError(f"{path}: its policy_class is {name}, which is not supported: {reason}")
    activation, images, anything = POLICIES[module]
    chosen = match[1] if match else images
    if chosen == anything and str(kwargs.get("features_extractor_class")) in (NATURE, *STUDENTS):
        return activation
    if chosen != images:
        raise UserError(f"{path}: its policy_class is {name}; only CnnPolicy agents are supported; train one")
    return activation


def _check_extractor(path: Path, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Refuse features extractors but SB3's NatureCNN and our own; return the latter's network."""
    extractor = str(kwargs.get("features_extractor_class", NATURE))
    if extractor == NATURE:
        return None
    if extractor not in STUDENTS:
        raise UserError(
            f"{path}: its features extractor is {extractor} (features_extractor_class); only SB3's own NatureCNN is "
            "supported, since a class of the same name or a subclass may compute something else"
        )
    more = kwargs.get("features_extractor_kwargs")
    spec = more.get("spec") if isinstance(more, dict) else None
    if not isinstance(spec, dict):
        raise UserError(f"{path}: its features_extractor_kwargs do not describe a student's network; export it again")
    return spec


def _check_observations(path: Path, space: Any) -> None:
    kind = _kind(space)
    if kind is None:
        return
    if kind != "Box":
        raise UserError(f"{path}: its observation_space is a {kind}; {FRAMES}")
    shape = space.get("_shape", space.get("shape"))
    if isinstance(shape, list) and tuple(shape) not in (OBS_SHAPE, (*OBS_SHAPE[1:], OBS_SHAPE[0])):
        text = "x".join(map(str, shape))
        text = f"RGB {text}" if len(shape) == 3 and 3 in (shape[0], shape[-1]) else text
        raise UserError(f"{path}: its observation_space is {text}; {FRAMES}")
    dtype = space.get("dtype")
    if dtype is not None and dtype != "uint8":
        raise UserError(f"{path}: its observation_space has dtype {dtype}; {FRAMES}")
    for name, bound in (("low", 0.0), ("high", 255.0)):
        numbers = {float(number) for number in re.findall(r"-?\d+(?:\.\d*)?(?:e[+-]?\d+)?", str(space.get(name, "")))}
        if numbers - {bound}:
            worst = sorted(numbers - {bound})[0]
            raise UserError(f"{path}: its observation_space has {name} {worst:g}, not {bound:g}; {FRAMES}")


def _check_actions(path: Path, space: Any) -> int | None:
    kind = _kind(space)
    if kind not in (None, "Discrete"):
        raise UserError(f"{path}: its action_space is a {kind}; agents here choose one of a game's actions (Discrete)")
    if not isinstance(space, dict):
        return None
    if str(space.get("start", 0)) != "0":
        raise UserError(f"{path}: its action_space starts at {space['start']}; a game's actions start at 0")
    text = str(space.get("n"))
    return int(text) if re.fullmatch("[0-9]{1,4}", text) else None


def _kind(space: Any) -> str | None:
    """``Box`` for ``<class 'gymnasium.spaces.box.Box'>``."""
    text = space.get(":type:") if isinstance(space, dict) else None
    match = re.search(r"(\w+)'>$", str(text))
    return match[1] if match else None


def _widths(net_arch: Any) -> tuple[int, ...] | None:
    """The policy's dense layers in ``[64]``, ``{"pi": [64], "vf": []}`` and the older ``[64, {"pi": [64]}]``."""
    if isinstance(net_arch, dict):
        net_arch = net_arch.get("pi", [])
    if not isinstance(net_arch, list):
        return None
    found: list[int] = []
    for part in net_arch:
        more = part.get("pi", []) if isinstance(part, dict) else [part]
        if not isinstance(more, list) or not all(isinstance(width, int) for width in more):
            return None
        found += more
    return tuple(found)
