"""Agents of CleanRL: the ``state_dict`` that its scripts for Atari save, read without running anything of it.

ppo_atari: ``network.0``, ``.2``, ``.4`` (convolutions), ``network.7`` (dense), ``actor``, ``critic``. dqn_atari: the
same network with its head at ``network.9``. c51_atari: a head of A rows for each atom, the atoms, and the script's
settings beside the weights. Their networks divide pixels by 255 themselves, so these are ours as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from distill.errors import UserError
from distill.networks.nets import NetSpec
from teachers.formats.format import LoadedPolicy, TeacherFormat
from teachers.formats.rebuild import Weights, build, nature_convs
from teachers.formats.torch_file import MAX_BYTES, State, checked, more_than, read_plain

SUFFIX = ".cleanrl_model"
WHAT = "the file"


class CategoricalQ(nn.Module):
    """C51: logits = Q / tau, Q the mean of a distribution over atoms for each action.

    Args:
        net: float pixels in [0, 1], (B, 4, 84, 84), to (B, A * N), action by action.
        atoms: the values that a return can have, float (N,).
        tau: temperature.
    """

    atoms: Tensor

    def __init__(self, net: nn.Module, atoms: Tensor, tau: float) -> None:
        super().__init__()
        self.net, self.tau = net, tau
        self.register_buffer("atoms", atoms)

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, A)."""
        odds = self.net(x).unflatten(1, (-1, len(self.atoms))).softmax(-1)
        return odds @ self.atoms / self.tau  # type: ignore[no-any-return]


def load_cleanrl(path: Path, tau: float = 0.01) -> LoadedPolicy:
    """Rebuild the policy network of a ``.cleanrl_model`` of ppo_atari, dqn_atari or c51_atari.

    Args:
        path: the file.
        tau: temperature that turns Q-values into logits (ignored for ppo_atari).

    Raises:
        UserError: missing, damaged, foreign or hostile file, or a network that none of these scripts has.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise UserError(f"tau must be a positive number, got {tau}")
    content = _content(path)
    # c51_atari saves {"model_weights": ..., "args": ...}, the others the weights alone.
    wrapped = isinstance(content, dict) and "model_weights" in content
    weights = Weights(path, checked(path, content["model_weights"] if wrapped else content, WHAT))
    layers = weights.layers("network")
    if not layers or not weights.under("network.0."):
        raise UserError(
            f"{path} is no agent of CleanRL's ppo_atari, dqn_atari or c51_atari, whose layers are called network.0, "
            f"network.2, ...; its parameters are {', '.join(sorted(weights.left)[:3]) or 'none'}"
        )
    if weights.under("actor."):
        return _actor_critic(weights, layers)
    return _q_network(weights, layers, tau)


def _content(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path} has {more_than(size, MAX_BYTES)}; refusing it")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} is not readable ({error}); copy it again") from error
    if not data.startswith((b"PK", b"\x80")):
        raise UserError(
            f"{path} was not written by PyTorch: CleanRL's JAX scripts (..._jax) save Flax's bytes, which are not "
            "read; use an agent of the script without _jax"
        )
    return read_plain(path, data, WHAT)


def _actor_critic(weights: Weights, layers: list[str]) -> LoadedPolicy:
    spec, state = _network(weights, layers)
    for mine, theirs in (("policy", "actor"), ("value", "critic")):
        for part in ("weight", "bias"):
            state[f"{mine}.{part}"] = weights.take(f"{theirs}.{part}")
    weights.check_all_taken()
    net = build(weights.path, spec, state)
    return LoadedPolicy(net, "PPO", net.num_actions, None, state)


def _q_network(weights: Weights, layers: list[str], tau: float) -> LoadedPolicy:
    *body, head = layers
    spec, state = _network(weights, body)
    atoms = weights.take("atoms") if "atoms" in weights.tensors else None
    scale = tau if atoms is None else 1.0
    state |= {f"policy.{part}": weights.take(f"{head}.{part}") / scale for part in ("weight", "bias")}
    weights.check_all_taken()
    net = build(weights.path, spec, state)
    if atoms is None:
        return LoadedPolicy(net, "DQN", net.num_actions, tau, state)
    actions, rest = divmod(net.num_actions, atoms.numel())
    if atoms.dim() != 1 or rest or not actions:
        raise UserError(
            f"{weights.path}: its head has {net.num_actions} outputs, which is no multiple of its "
            f"{atoms.numel()} atoms; the file is damaged"
        )
    return LoadedPolicy(CategoricalQ(net, atoms, tau), "C51", actions, tau, state | {"atoms": atoms})


def _network(weights: Weights, layers: list[str]) -> tuple[NetSpec, State]:
    """Layers and their parameters by the names that ``AtariCNN`` gives them; ReLU follows each."""
    taken = [(weights.take(f"{layer}.weight"), weights.take(f"{layer}.bias")) for layer in layers]
    convs = [tuple(weight.shape) for weight, _ in taken if weight.dim() == 4]
    hidden = tuple(len(weight) for weight, _ in taken if weight.dim() == 2)
    if not convs or not hidden or [weight.dim() for weight, _ in taken] != [4] * len(convs) + [2] * len(hidden):
        raise UserError(f"{weights.path}: its layers are not convolutions and then dense ones, as those of CleanRL are")
    state: State = {}
    for number, (weight, bias) in enumerate(taken):
        # An activation follows each layer, and nn.Flatten takes a place of its own after the convolutions.
        place = 2 * number + (number >= len(convs))
        state |= {f"features.{place}.weight": weight, f"features.{place}.bias": bias}
    return NetSpec(nature_convs(weights.path, convs), hidden), state


def _told(path: Path) -> Mapping[str, Any]:
    """The script's settings, which c51_atari saves."""
    try:
        content = _content(path)
    except UserError:  # whoever loads the agent says what is wrong with it
        return {}
    args = content.get("args") if isinstance(content, dict) else None
    return {name: args[name] for name in ("env_id",) if name in args} if isinstance(args, dict) else {}


FORMAT = TeacherFormat(
    "cleanrl",
    recognises=lambda path: path.suffix == SUFFIX,
    read=lambda path, tau, card: load_cleanrl(path, tau),
    suffix=SUFFIX,
    is_what_a_folder_means=True,  # runs/BreakoutNoFrameskip-v4__dqn_atari__1__1690000000
    preset="cleanrl",
    told=_told,
    files=f"`{SUFFIX}`",
    agents="ppo_atari, dqn_atari, c51_atari of CleanRL",
)
