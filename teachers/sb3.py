"""Read stable-baselines3 and rl-zoo zips without running anything inside them.

An SB3 zip's ``data`` holds cloudpickled closures. Unpickling them runs code from whoever made the
file, and fails across Python versions more often than anything else users report. We need none of
it: the weights (``policy.pth``, read with ``weights_only=True``) name the network by themselves.
"""

from __future__ import annotations

import io
import json
import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import UserError
from distill.students.nets import AtariCNN, NetSpec

MAX_BYTES = 2**30
NATURE_STRIDES = {8: 4, 4: 2, 3: 1}
State = dict[str, Tensor]


@dataclass(frozen=True)
class LoadedPolicy:
    """A network rebuilt from a zip, before anyone says which game it plays."""

    net: AtariCNN
    """Float pixels in [0, 1], (B, 4, 84, 84), to logits (B, A)."""
    algorithm: str
    """``PPO/A2C`` (the weights do not tell which), ``DQN`` or ``QR-DQN``."""
    num_actions: int
    """Width of the policy head."""
    tau: float | None
    """Q-value agents only: the head's weights are already divided by it."""
    state: Mapping[str, Tensor]
    """The net's parameters, float32 on the CPU; they share memory with it."""


def load_sb3_zip(path: Path, tau: float = 0.01) -> LoadedPolicy:
    """Rebuild the policy network of an SB3 PPO, A2C, DQN or sb3-contrib QR-DQN ``CnnPolicy``.

    Args:
        path: the zip.
        tau: temperature that turns Q-values into logits (ignored for PPO and A2C).

    Raises:
        UserError: missing, truncated, foreign or hostile file, or a network we do not know.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise UserError(f"tau must be a positive number, got {tau}")
    policy, data = _read_archive(path)
    weights = _Weights(path, _read_weights(path, policy))
    fields = _plain_fields(data)
    _check_policy_kwargs(path, fields)
    if weights.under("q_net."):
        return _q_network(weights, "DQN", "q_net", tau, fields)
    if weights.under("quantile_net."):
        return _q_network(weights, "QR-DQN", "quantile_net", tau, fields)
    if weights.under("action_net."):
        return _actor_critic(weights)
    raise UserError(
        f"{path} holds no policy this toolkit knows (PPO, A2C, DQN or QR-DQN with CnnPolicy); "
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


def _read_archive(path: Path) -> tuple[bytes, bytes]:
    """The bytes of ``policy.pth`` and ``data`` (empty where there is none)."""
    if not path.is_file():
        raise UserError(f"no teacher at {path}; give a path to a stable-baselines3 zip or a bundled name")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            for name in ("policy.pth", "data"):
                # zipfile never unpacks more than the directory promises, so the promise is enough.
                if sizes.get(name, 0) > MAX_BYTES:
                    raise UserError(f"{path}: {name} would unpack to more than 1 GiB; refusing it")
            if "policy.pth" not in sizes:
                # A file cut short often passes for the last of the zips that SB3 nests inside it.
                raise UserError(f"{path} has no policy.pth: it is not from stable-baselines3, or cut short in copying")
            return archive.read("policy.pth"), archive.read("data") if "data" in sizes else b""
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds for damaged, encrypted or unreadable files
        raise UserError(f"{path} is not a readable zip file ({error}); download or copy it again") from error


def _read_weights(path: Path, policy: bytes) -> State:
    try:
        if policy.startswith(b"PK"):  # torch.save's own zip, which torch unpacks however small it was squeezed
            with zipfile.ZipFile(io.BytesIO(policy)) as records:
                if sum(record.file_size for record in records.infolist()) > MAX_BYTES:
                    raise UserError(f"{path}: its weights would unpack to more than 1 GiB; refusing them")
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols, which the error below tells better
            weights = torch.load(io.BytesIO(policy), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds for a hostile or damaged pickle
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise UserError(
            f"{path}: policy.pth is damaged or holds more than plain weights, so it was not loaded ({reason})"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path}: policy.pth is not a dictionary of named tensors")
    arrays: State = {}
    size = 0
    for name, value in weights.items():
        if not (isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"):
            raise UserError(f"{path}: {name} in policy.pth is not an ordinary tensor")
        if value.is_nested or not value.is_floating_point() or value.dim() == 0 or value.numel() == 0:
            raise UserError(f"{path}: {name} in policy.pth is not an array of floats, as weights are")
        size += 4 * value.numel()  # a view with stride 0 can be far larger than its file
        if size > MAX_BYTES:
            raise UserError(f"{path}: its weights would take more than 1 GiB; refusing them")
        arrays[name] = value.detach().to(torch.float32).contiguous()
        if not torch.isfinite(arrays[name]).all():
            raise UserError(f"{path}: its weights hold NaN or Inf ({name}); this teacher cannot be used")
    return arrays


def _plain_fields(data: bytes) -> dict[str, Any]:
    """The JSON part of ``data``; pickled values stay base64 text that nobody decodes."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _check_policy_kwargs(path: Path, fields: dict[str, Any]) -> None:
    """Refuse options that change what the same weights compute, where the plain text shows them."""
    kwargs = fields.get("policy_kwargs")
    if not isinstance(kwargs, dict):
        return
    extractor = str(kwargs.get("features_extractor_class", "NatureCNN"))
    if "NatureCNN" not in extractor:
        raise UserError(f"{path}: its features extractor is {extractor}; only SB3's NatureCNN is supported")
    if str(kwargs.get("normalize_images", True)) == "False":
        raise UserError(f"{path}: it was made with normalize_images=False, so it expects pixels we do not feed it")


def _actor_critic(weights: _Weights) -> LoadedPolicy:
    separate = bool(weights.under("pi_features_extractor."))
    extractor = "pi_features_extractor" if separate else "features_extractor"
    state = _features(weights, extractor, weights.layers("mlp_extractor.policy_net"))
    spec = _spec(weights.path, state)
    for ours, theirs in (("policy", "action_net"), ("value", "value_net")):
        for part in ("weight", "bias"):
            state[f"{ours}.{part}"] = weights.take(f"{theirs}.{part}")
    if not _critic_shares_features(weights):
        del state["value.weight"], state["value.bias"]
    # SB3 saves a shared extractor under three names; the layers of a separate critic are not needed.
    copies = ["vf_features_extractor.", "mlp_extractor.value_net."] + ["features_extractor."] * separate
    weights.check_all_taken(*copies)
    net = _build(weights.path, spec, state)
    return LoadedPolicy(net, "PPO/A2C", net.num_actions, None, state)


def _critic_shares_features(weights: _Weights) -> bool:
    """False where the critic has layers of its own; such agents are loaded without a value."""
    if weights.under("mlp_extractor.value_net."):
        return False
    twins = ((weights.tensors[name], weights.tensors.get("pi" + name[2:])) for name in weights.under("vf_"))
    return all(pi is not None and torch.equal(vf, pi) for vf, pi in twins)


def _q_network(weights: _Weights, algorithm: str, root: str, tau: float, fields: dict[str, Any]) -> LoadedPolicy:
    *hidden, head = weights.layers(f"{root}.{root}") or [f"{root}.{root}.0"]
    state = _features(weights, f"{root}.features_extractor", hidden)
    spec = _spec(weights.path, state)
    outputs = len(weights.take(f"{head}.weight"))
    actions = outputs if algorithm == "DQN" else _actions_of(weights.path, fields, outputs)
    for part in ("weight", "bias"):
        tensor = weights.take(f"{head}.{part}")
        if len(tensor) != outputs:
            raise UserError(f"{weights.path}: {head} has {outputs} rows but a {part} for {len(tensor)}")
        # QR-DQN's rows are (n_quantiles, A): Q is the mean over quantiles, a linear map of the head.
        state[f"policy.{part}"] = tensor.reshape(-1, actions, *tensor.shape[1:]).mean(0) / tau
    weights.check_all_taken(f"{root}_target.")
    net = _build(weights.path, spec, state)
    return LoadedPolicy(net, algorithm, actions, tau, state)


def _actions_of(path: Path, fields: dict[str, Any], outputs: int) -> int:
    """Number of actions in the plain text SB3 keeps beside the pickled action space."""
    space = fields.get("action_space")
    text = str(space.get("n")) if isinstance(space, dict) else ""
    actions = int(text) if re.fullmatch("[0-9]{1,4}", text) else 0
    quantiles = fields.get("n_quantiles")
    if actions < 1 or outputs % actions or (isinstance(quantiles, int) and outputs != actions * quantiles):
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


def _spec(path: Path, state: State) -> NetSpec:
    shapes = [tuple(tensor.shape) for name, tensor in state.items() if name.endswith("weight")]
    convs = [shape for shape in shapes if len(shape) == 4]
    hidden = [shape[0] for shape in shapes if len(shape) == 2]
    if not convs:
        raise UserError(f"{path}: its network has no convolutions; only CnnPolicy agents are supported")
    for shape in convs:
        if shape[2] not in NATURE_STRIDES or shape[2] != shape[3]:
            raise UserError(f"{path}: a convolution of shape {shape} is not one of NatureCNN's")
    if not hidden:
        raise UserError(f"{path}: the dense layer after its convolutions is missing; the file is damaged")
    if len(hidden) > 1:
        # SB3 hides the activation of extra dense layers in a pickle, so it cannot be known.
        raise UserError(f"{path}: its policy has extra dense layers (net_arch), which are not supported")
    return NetSpec(tuple((shape[0], shape[2], NATURE_STRIDES[shape[2]]) for shape in convs), tuple(hidden))


def _build(path: Path, spec: NetSpec, state: State) -> AtariCNN:
    # On the meta device nothing is allocated or drawn: shapes are checked first, then tensors assigned.
    with torch.device("meta"):
        net = AtariCNN(spec, len(state["policy.bias"]), value="value.weight" in state)
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: its shapes do not fit 4 stacked 84x84 frames ({detail})") from error
    return net
