"""The policy network of a stable-baselines3 or rl-zoo agent, rebuilt without running anything of it.

An SB3 zip's ``data`` holds cloudpickled closures. Unpickling them runs code from whoever made the
file, and fails across Python versions more often than anything else users report. We need none of
it: the weights (``policy.pth``, read with ``weights_only=True``) name the network's layers, and what they do
not tell stands in ``data`` in plain text beside the pickles.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from distill.errors import UserError, first_line
from distill.networks.nets import NetSpec
from teachers.formats.archive import is_unpacked, read_archive, read_fields
from teachers.formats.described import Described, describe, extra_activation
from teachers.formats.format import LoadedPolicy, TeacherFormat
from teachers.formats.rebuild import Weights, build, nature_convs
from teachers.formats.torch_file import State


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
    weights = Weights(path, archive.weights)
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


def sb3_papers(path: Path) -> Mapping[str, Any]:
    """What a zip that this toolkit wrote tells of its agent; nothing of others' zips.

    Raises:
        UserError: as ``load_sb3_zip``.
    """
    return describe(path, read_archive(path).fields).papers or {}


def _actor_critic(weights: Weights, described: Described) -> LoadedPolicy:
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
    role = "imitation" if (described.papers or {}).get("role") == "teacher" else "student"
    algorithm = role if ours else "TRPO" if described.trpo else "PPO/A2C"
    return LoadedPolicy(net, algorithm, net.num_actions, None, state)


def _critic_shares_features(weights: Weights) -> bool:
    """False where critic or actor have layers of their own; such agents are loaded without a value."""
    if weights.under("mlp_extractor.value_net.") or weights.under("mlp_extractor.policy_net."):
        return False
    twins = ((weights.tensors[name], weights.tensors.get("pi" + name[2:])) for name in weights.under("vf_"))
    return all(pi is not None and torch.equal(vf, pi) for vf, pi in twins)


def _student_features(weights: Weights, extractor: str) -> State:
    prefix = f"{extractor}.body."
    return {f"features.{name.removeprefix(prefix)}": weights.take(name) for name in weights.under(prefix)}


def _student_spec(path: Path, fields: dict[str, object]) -> NetSpec:
    try:
        return NetSpec.from_dict(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its description of a student's network is damaged ({first_line(error)})") from error


def _q_network(weights: Weights, algorithm: str, root: str, tau: float, described: Described) -> LoadedPolicy:
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


def _features(weights: Weights, extractor: str, extra: list[str]) -> State:
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
    convolutions = nature_convs(path, convs)
    if not hidden:
        raise UserError(f"{path}: the dense layer after its convolutions is missing; the file is damaged")
    # NatureCNN's own activations are ReLU, whatever those of net_arch are.
    told = described.net_arch or hidden[1:]
    extra = extra_activation(path, described, hidden[1:]) if told else None
    return NetSpec(convolutions, hidden, "relu", None if extra == "relu" else extra)


def _recognises(path: Path) -> bool:
    """True for the content of an SB3 zip, packed or not, whatever its name."""
    if path.is_dir():
        return is_unpacked(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name == "policy.pth" or name.endswith("/policy.pth") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _told(path: Path) -> Mapping[str, Any]:
    student = read_fields(path).get("distilled")
    return {"student": student} if isinstance(student, dict) and student.get("game") else {}


FORMAT = TeacherFormat(
    "sb3",
    recognises=_recognises,
    read=lambda path, tau, card: load_sb3_zip(path, tau),
    suffix=".zip",
    told=_told,
    files="a zip or folder with `policy.pth`",
    agents="PPO, A2C, TRPO, DQN, QR-DQN of stable-baselines3 and RL Zoo, and `student.zip`",
)
