"""The PPO model that ``make teacher`` trains, where its training stands, and the games it plays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from stable_baselines3 import PPO

from distill.envs.presets import get_preset
from distill.errors import UserError, first_line
from distill.networks.nets import NETS, AtariCNN, described
from distill.system.device import pick_device
from distill.system.progress import console
from distill.system.streams import teacher_games
from teachers.keeper import TrainingState
from teachers.load import find_teacher, load_teacher
from teachers.policy import fuse_optimizer, make_ppo
from teachers.sb3_vec import AtariVecSB3
from teachers.settings import MAX_SEED, TeacherConfig


def make_model(config: TeacherConfig, folder: Path, state: TrainingState) -> tuple[PPO, AtariVecSB3]:
    """A PPO model where training stands, and the games it plays."""
    assert config.seed is not None
    # A continued run must not play the games of its beginning again.
    seed = int(teacher_games(config.seed, state.timesteps).integers(MAX_SEED))
    start = None if config.init is None or state.checkpoint else _initial_weights(config)
    env = AtariVecSB3(config.env, config.num_envs, get_preset(config.preset), seed=seed)
    model = make_ppo(
        env,
        learning_rate=linear(config.learning_rate),
        clip_range=linear(config.clip_range),
        seed=seed,
        device=pick_device(config.device),
        **config.of_model(),
    )
    if state.checkpoint:
        path = folder / state.checkpoint
        try:  # weights and Adam's memory only: nothing is unpickled
            model.set_parameters(str(path), device=model.device)
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{path} is not a readable checkpoint ({first_line(error)})") from error
        model.num_timesteps = state.timesteps
        model.ep_info_buffer = deque(({"r": r, "l": length} for r, length in state.games), maxlen=100)
        model.ep_success_buffer = deque(maxlen=100)  # SB3 makes both or none
    elif start is not None:
        copy_weights(start, model)
    fuse_optimizer(model)
    return model, env


def linear(start: float) -> Callable[[float], float]:
    """A schedule of SB3's: falls from ``start`` to 0, and stays there.

    SB3 plays whole rollouts, so that below 0 may remain of the states: a negative rate would unlearn.
    """
    return lambda remaining: max(remaining, 0.0) * start


def _initial_weights(config: TeacherConfig) -> AtariCNN:
    init = str(config.init)
    agent = load_teacher(init, game=config.env, preset=config.preset)
    agent.info.require_policy(f"--init={init}")
    for objection in find_teacher(init).papers.objections[:1]:
        console.print(f"--init={init} learned in another environment: {objection}; it goes on in {config.preset}")
    net = agent.net
    if not described(net) or net.spec != NETS["nature"]:
        raise UserError(f"--init={config.init} has another network than CnnPolicy's, so its weights do not fit")
    return net


def copy_weights(net: AtariCNN, model: PPO) -> None:
    """Put the weights of a NatureCNN agent into an SB3 ``CnnPolicy``; without a value head SB3's fresh one stays."""
    state = net.state_dict()
    layers = {"cnn.0": "features.0", "cnn.2": "features.2", "cnn.4": "features.4", "linear.0": "features.7"}
    parts = ("weight", "bias")
    features = {f"{theirs}.{part}": state[f"{ours}.{part}"] for theirs, ours in layers.items() for part in parts}
    model.policy.features_extractor.load_state_dict(features)
    model.policy.action_net.load_state_dict({part: state[f"policy.{part}"] for part in parts})
    if net.value is not None:
        model.policy.value_net.load_state_dict({part: state[f"value.{part}"] for part in parts})
