"""The policy network of a stable-baselines3 or rl-zoo agent, rebuilt without running anything of it.

An SB3 zip's ``data`` holds cloudpickled closures. Unpickling them runs code from whoever made the
file, and fails across Python versions more often than anything else users report. We need none of
it: the weights (``policy.pth``, read with ``weights_only=True``) name the network's layers, and what they do
not tell stands in ``data`` in plain text beside the pickles.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from distill.errors import UserError, first_line
from distill.networks.nets import AtariCNN, NetSpec
from teachers.formats.archive import State, read_archive
from teachers.formats.described import Described, describe, extra_activation

NATURE_STRIDES = {8: 4, 4: 2, 3: 1}


@dataclass(frozen=True)
class LoadedPolicy:
    """A network rebuilt from a zip, before anyone says which game it plays."""

    net: AtariCNN
    """Float pixels in [0, 1], (B, 4, 84, 84), to logits (B, A)."""
    algorithm: str
    """``PPO/A2C`` (the weights do not tell which), ``TRPO``, ``DQN``, ``QR-DQN`` or ``student``."""
    num_actions: int
    """Width of the policy head."""
    tau: float | None
    """Q-value agents only: the head's weights are already divided by it."""
    state: Mapping[str, Tensor]
    """The net's parameters, float32 on the CPU; they share memory with it."""


def load_sb3_zip(path: Path, tau: float = 0.01) -> LoadedPolicy:
    """Rebuild the policy network of an SB3 PPO, A2C, DQN, or sb3-contrib TRPO or QR-DQN ``CnnPolicy``.

    Args:
        path: the zip, a zip of a folder, or an unpacked folder; also a student's ``student.zip``.
        tau: temperature that turns Q-values into logits (ignored for the others).

    Raises:
        UserError: missing, truncated, foreign or hostile file, or a network we do not know.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise UserError(f"tau must be a positive number, got {tau}")
    archive = read_archive(path)
    described = describe(path, archive.fields)
    weights = _Weights(path, archive.weights)
    if weights.under("q_net."):
        return _q_network(weights, "DQN", "q_net", tau, described)
    if weights.under("quantile_net."):
        return _q_network(weights, "QR-DQN", "quantile_net", tau, described)
    if weights.under("action_net."):
        return _actor_critic(weights, described)
    raise UserError(
        f"{path} holds no policy this toolkit knows (PPO, A2C, TRPO, DQN or QR-DQN with CnnPolicy); "
        f"its parameters are {', '.join(sorted(weights.left)[:3]) or 'none'}"
    )


class _Weights:
    """Named tensors of one file, taken out by name so that nothing is overlooked."""

    def __init__(self, path: Path, tensors: State) -> None:
        self.path, self.tensors, self.left = path, tensors, set(tensors)

    def under(self, prefix: str) -> list[str]:
        return [name for name in self.tensors if name.startswith(prefix)]

    def take(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise UserError(f"{self.path}: parameter {name} is missing; the file is damaged or from another network")
        self.left.discard(name)
        return self.tensors[name]

    def layers(self, prefix: str) -> list[str]:
        """``prefix.0``, ``prefix.2``, ... in the order of an nn.Sequential."""
        pattern = re.compile(rf"{re.escape(prefix)}\.(\d{{1,3}})\.(?:weight|bias)")
        return [f"{prefix}.{n}" for n in sorted({int(m[1]) for m in map(pattern.fullmatch, self.tensors) if m})]

    def check_all_taken(self, *copies: str) -> None:
        left = sorted(name for name in self.left if not name.startswith(copies))
        if left:
            raise UserError(f"{self.path}: parameters {', '.join(left[:3])} fit no network this toolkit knows")


def _actor_critic(weights: _Weights, described: Described) -> LoadedPolicy:
    separate = bool(weights.under("pi_features_extractor."))
    extractor = "pi_features_extractor" if separate else "features_extractor"
    extra = weights.layers("mlp_extractor.shared_net") + weights.layers("mlp_extractor.policy_net")
    if described.spec is None:
        state = _features(weights, extractor, extra)
        spec = _spec(weights.path, state, described)
    else:
        state, spec = _student_features(weights, extractor), _student_spec(weights.path, described.spec)
    for mine, theirs in (("policy", "action_net"), ("value", "value_net")):
        for part in ("weight", "bias"):
            state[f"{mine}.{part}"] = weights.take(f"{theirs}.{part}")
    ours = described.spec is not None or described.papers is not None
    no_opinion = ours and not any(state[f"value.{part}"].any() for part in ("weight", "bias"))
    if no_opinion or not _critic_shares_features(weights):
        del state["value.weight"], state["value.bias"]
    # SB3 saves a shared extractor under three names; the layers of a separate critic are not needed.
    copies = ["vf_features_extractor.", "mlp_extractor.value_net."] + ["features_extractor."] * separate
    weights.check_all_taken(*copies)
    net = build(weights.path, spec, state)
    algorithm = "student" if ours else "TRPO" if described.trpo else "PPO/A2C"
    return LoadedPolicy(net, algorithm, net.num_actions, None, state)


def _critic_shares_features(weights: _Weights) -> bool:
    """False where critic or actor have layers of their own; such agents are loaded without a value."""
    if weights.under("mlp_extractor.value_net.") or weights.under("mlp_extractor.policy_net."):
        return False
    twins = ((weights.tensors[name], weights.tensors.get("pi" + name[2:])) for name in weights.under("vf_"))
    return all(pi is not None and torch.equal(vf, pi) for vf, pi in twins)


def _student_features(weights: _Weights, extractor: str) -> State:
    prefix = f"{extractor}.body."
    return {f"features.{name.removeprefix(prefix)}": weights.take(name) for name in weights.under(prefix)}


def _student_spec(path: Path, fields: dict[str, object]) -> NetSpec:
    try:
        return NetSpec.from_dict(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its description of a student's network is damaged ({first_line(error)})") from error


def _q_network(weights: _Weights, algorithm: str, root: str, tau: float, described: Described) -> LoadedPolicy:
    *hidden, head = weights.layers(f"{root}.{root}") or [f"{root}.{root}.0"]
    state = _features(weights, f"{root}.features_extractor", hidden)
    spec = _spec(weights.path, state, described)
    outputs = len(weights.take(f"{head}.weight"))
    actions = outputs if algorithm == "DQN" else _actions_of(weights.path, described, outputs)
    for part in ("weight", "bias"):
        tensor = weights.take(f"{head}.{part}")
        if len(tensor) != outputs:
            raise UserError(f"{weights.path}: {head} has {outputs} rows but a {part} for {len(tensor)}")
        # QR-DQN's rows are (n_quantiles, A): Q is the mean over quantiles, a linear map of the head.
        state[f"policy.{part}"] = tensor.reshape(-1, actions, *tensor.shape[1:]).mean(0) / tau
    weights.check_all_taken(f"{root}_target.")
    net = build(weights.path, spec, state)
    return LoadedPolicy(net, algorithm, actions, tau, state)


def _actions_of(path: Path, described: Described, outputs: int) -> int:
    """Number of actions in the plain text SB3 keeps beside the pickled action space."""
    actions, quantiles = described.actions or 0, described.quantiles
    if actions < 1 or outputs % actions or (quantiles is not None and outputs != actions * quantiles):
        raise UserError(f"{path}: cannot tell how many actions its {outputs} quantile outputs stand for")
    return actions


def _features(weights: _Weights, extractor: str, extra: list[str]) -> State:
    """Rename convolutions and dense layers to ``features.N.*`` in the order AtariCNN builds them."""
    convs, dense = weights.layers(f"{extractor}.cnn"), weights.layers(f"{extractor}.linear") + extra
    state: State = {}
    for i, layer in enumerate(convs + dense):
        weight = weights.take(f"{layer}.weight")
        if weight.dim() not in (2, 4):
            raise UserError(f"{weights.path}: {layer} is neither a convolution nor a dense layer")
        # An activation follows each layer, and nn.Flatten takes a place of its own after the convolutions.
        place = 2 * i + (i >= len(convs))
        state[f"features.{place}.weight"] = weight
        state[f"features.{place}.bias"] = weights.take(f"{layer}.bias")
    return state


def _spec(path: Path, state: State, described: Described) -> NetSpec:
    shapes = [tuple(tensor.shape) for name, tensor in state.items() if name.endswith("weight")]
    convs = [shape for shape in shapes if len(shape) == 4]
    hidden = tuple(shape[0] for shape in shapes if len(shape) == 2)
    if not convs:
        raise UserError(f"{path}: its network has no convolutions; only CnnPolicy agents are supported")
    for shape in convs:
        if shape[2] not in NATURE_STRIDES or shape[2] != shape[3]:
            raise UserError(f"{path}: a convolution of shape {shape} is not one of NatureCNN's")
    if not hidden:
        raise UserError(f"{path}: the dense layer after its convolutions is missing; the file is damaged")
    # NatureCNN's own activations are ReLU, whatever those of net_arch are.
    told = described.net_arch or hidden[1:]
    extra = extra_activation(path, described, hidden[1:]) if told else None
    convolutions = tuple((shape[0], shape[2], NATURE_STRIDES[shape[2]]) for shape in convs)
    return NetSpec(convolutions, hidden, "relu", None if extra == "relu" else extra)


def build(path: Path, spec: NetSpec, state: State) -> AtariCNN:
    """A network of these parameters; UserError where they do not fit 4 stacked 84x84 frames."""
    # On the meta device nothing is allocated or drawn: shapes are checked first, then tensors assigned.
    with torch.device("meta"):
        net = AtariCNN(spec, len(state["policy.bias"]), value="value.weight" in state)
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: its shapes do not fit 4 stacked 84x84 frames ({detail})") from error
    return net
