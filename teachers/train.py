"""Make a teacher, or a better one, with stable-baselines3's PPO.

``python -m teachers.train --env breakout --init breakout --total-timesteps 1000000 --out runs/teacher-breakout``
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from distill.errors import UserError, first_line
from distill.system.ranges import POSITIVE, SHARE, ZERO_OR_MORE, check_ranges, check_types
from distill.system.runtime import tune_process
from distill.system.signals import outcome, raising_on_sigterm

if TYPE_CHECKING:
    from stable_baselines3 import PPO

    from distill.networks.nets import AtariCNN
    from teachers.keeper import TrainingState
    from teachers.sb3_vec import AtariVecSB3

MAX_SEED = 2**30
FREE = ("total_timesteps", "device", "out", "checkpoint_every")
POSITIVES = (
    "total_timesteps", "num_envs", "n_steps", "n_epochs", "learning_rate", "clip_range", "max_grad_norm",
    "checkpoint_every",
)  # fmt: skip
RANGES = (
    dict.fromkeys(POSITIVES, POSITIVE)
    | dict.fromkeys(("ent_coef", "vf_coef"), ZERO_OR_MORE)
    | dict.fromkeys(("gamma", "gae_lambda"), SHARE)
)


@dataclass(frozen=True)
class TeacherConfig:
    """Settings; the defaults are RL Baselines3 Zoo's for PPO on Atari, but for ``num_envs`` (there 8)."""

    env: str = ""
    """Game: pong, Pong, PongNoFrameskip-v4 and ALE/Pong-v5 are the same; default: that of init, else pong."""
    init: str | None = None
    """Start from this agent's weights: a bundled name, a path to a stable-baselines3 zip, or hf://org/repo."""
    total_timesteps: int = 10_000_000
    """Agent steps over all lanes, earlier runs in the same folder included; four emulator frames each."""
    num_envs: int = 16
    """Games played side by side."""
    seed: int | None = None
    """Seed of games, weights and actions; drawn and printed where none is given."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    out: str = "runs/teacher-{env}"
    """Folder of checkpoints, TensorBoard events and the agents; the same command continues there."""
    preset: str = "sb3"
    """What the agent sees: sb3, sb3-fast or async-rl (docs/presets.md)."""
    n_steps: int = 128
    """Steps of each lane between two updates."""
    batch_size: int = 256
    """Steps in a minibatch; divides num_envs * n_steps."""
    n_epochs: int = 4
    """Passes over the collected steps in an update."""
    learning_rate: float = 2.5e-4
    """Adam's learning rate at the start; falls linearly to 0 at total_timesteps."""
    clip_range: float = 0.1
    """PPO's clipping of the policy ratio at the start; falls linearly to 0."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """Bias-variance trade-off of the advantage estimate."""
    max_grad_norm: float = 0.5
    """Clip the gradient's norm to this."""
    checkpoint_every: int = 100_000
    """Timesteps between checkpoints, at which the best agent is judged, too."""


def train_teacher(config: TeacherConfig) -> Path:
    """Train an agent, or continue where the same folder's run was cut off.

    Writes ``final.zip`` and ``best.zip`` (the best mean return of the last 10 to 100 games seen at a checkpoint),
    each with a model card, which ``load_teacher`` reads; TensorBoard events; ``progress.json`` and one checkpoint.

    Returns:
        ``final.zip``.

    Raises:
        UserError: bad settings, a folder that holds another run, or weights that became NaN or infinite.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    from distill.system.progress import Bar, console
    from teachers.keeper import Keeper, Origin, TrainingState

    config, why = _validated(config)
    console.print(f"game: {config.env} ({why})")
    folder, config = _open_folder(config)
    state = TrainingState.read(folder)
    final = folder / "final.zip"
    if state.timesteps >= config.total_timesteps and final.is_file():
        console.print(f"{final}: already trained for {state.timesteps:,} steps; nothing to do")
        return final
    model, env = _make_model(config, folder, state)
    if state.checkpoint:
        console.print(f"{folder}: continuing at step {state.timesteps:,}")
    settings = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False).strip()
    origin = Origin(config.env, config.preset, config.init, settings)
    with contextlib.closing(env), Bar(f"teach {config.env}", "steps", config.total_timesteps, state.timesteps) as bar:
        keeper = Keeper(folder, origin, state, config.checkpoint_every, bar)
        with keeper.stop:
            left = config.total_timesteps - state.timesteps
            try:
                model.learn(left, keeper, reset_num_timesteps=state.timesteps == 0)
            except ValueError as error:
                if "invalid values" in str(error):  # how torch's Categorical greets NaN
                    raise keeper.diverged() from error
                raise
            keeper.save()
        model.logger.close()
        if keeper.stop.asked:
            stopped = keeper.stop.take()
            word = outcome(stopped)[0]
            console.print(f"{word} at step {keeper.state.timesteps:,}; saved. The same command continues.")
            raise stopped
        keeper.save_agent("final")
    console.print(f"teacher: {final}")
    return final


def _validated(config: TeacherConfig) -> tuple[TeacherConfig, str]:
    """The settings with their game, and why it is that."""
    from distill.envs.presets import get_preset
    from distill.system.device import pick_device

    check_types(config)
    check_ranges(config, RANGES)
    collected = config.num_envs * config.n_steps
    holds = 1 < config.batch_size <= collected and collected % config.batch_size == 0
    _require(holds, "batch_size", config.batch_size, f"a divisor of num_envs * n_steps = {collected} above 1")
    holds = config.seed is None or 0 <= config.seed < MAX_SEED
    _require(holds, "seed", config.seed, "between 0 and 2^30 - 1")
    get_preset(config.preset)
    pick_device(config.device)
    game, why = _game(config)
    return dataclasses.replace(config, env=game), why


def _game(config: TeacherConfig) -> tuple[str, str]:
    from distill.envs.games import canonical_game
    from teachers.load import agent_game

    if config.env:  # weights of another game are refused when they are loaded
        return canonical_game(config.env), "from --env"
    if config.init is None:
        return "pong", "by default"
    told = agent_game(config.init)
    if told is None:
        raise UserError(f"cannot tell which game {config.init} plays; name it with --env")
    return told[0], f"from --init {config.init}: {told[1]}"


def _require(holds: bool, name: str, value: object, want: str) -> None:
    if not holds:
        raise UserError(f"--{name} must be {want}, got {value}")


def _open_folder(config: TeacherConfig) -> tuple[Path, TeacherConfig]:
    """The run's folder, and the config with the seed that is used there.

    Raises:
        UserError: the folder holds something else, or a run with other settings.
    """
    from distill.system.files import write_bytes, write_json
    from distill.system.parser import read_saved
    from distill.system.provenance import command_line, versions
    from distill.system.settings import fill

    folder = fill(config.out, env=config.env)
    path = folder / "config.yaml"
    if path.is_file():
        before = read_saved(path, "choose another --out")
        if config.seed is None:
            config = dataclasses.replace(config, seed=before.get("seed"))
        asked = dataclasses.asdict(config)
        changed = [
            f"{k} was {before.get(k)}, now {v}" for k, v in asked.items() if k not in FREE and before.get(k) != v
        ]
        if changed:
            raise UserError(f"{folder} is a different run: {'; '.join(changed)}; choose another --out")
        return folder, config
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a teacher's training run; choose another --out")
    if config.seed is None:
        config = dataclasses.replace(config, seed=random.SystemRandom().randrange(MAX_SEED))
        print(f"seed: {config.seed} (drawn)")
    write_bytes(path, yaml.safe_dump(dataclasses.asdict(config), sort_keys=False).encode())
    write_bytes(folder / "command.txt", (command_line() + "\n").encode())
    write_json(folder / "versions.json", versions())
    return folder, config


def _make_model(config: TeacherConfig, folder: Path, state: TrainingState) -> tuple[PPO, AtariVecSB3]:
    """A PPO model where training stands, and the games it plays."""
    import numpy as np
    from stable_baselines3.common.logger import configure

    from distill.envs.presets import get_preset
    from distill.system.device import pick_device
    from teachers.policy import fuse_optimizer, make_ppo
    from teachers.sb3_vec import AtariVecSB3

    assert config.seed is not None
    # A continued run must not play the games of its beginning again.
    seed = int(np.random.default_rng([config.seed, state.timesteps]).integers(MAX_SEED))
    start = None if config.init is None or state.checkpoint else _initial_weights(config)
    env = AtariVecSB3(config.env, config.num_envs, get_preset(config.preset), seed=seed)
    settings = ("n_steps", "batch_size", "n_epochs", "ent_coef", "vf_coef", "gamma", "gae_lambda", "max_grad_norm")
    model = make_ppo(
        env,
        learning_rate=_linear(config.learning_rate),
        clip_range=_linear(config.clip_range),
        seed=seed,
        device=pick_device(config.device),
        **{name: getattr(config, name) for name in settings},
    )
    model.set_logger(configure(str(folder), ["tensorboard"]))
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


def _linear(start: float) -> Callable[[float], float]:
    return lambda remaining: remaining * start


def _initial_weights(config: TeacherConfig) -> AtariCNN:
    from distill.networks.nets import NETS, AtariCNN
    from teachers.load import load_teacher

    net = load_teacher(str(config.init), game=config.env, preset=config.preset).net
    if not isinstance(net, AtariCNN) or net.spec != NETS["nature"]:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        Exit status: 0 done, 1 an error the user can fix, 130 Ctrl-C, 143 SIGTERM.
    """
    tune_process()
    from distill.system.parser import make_parser, read

    parser = make_parser("python -m teachers.train", str(__doc__), TeacherConfig)
    words = [_our_spelling(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        with raising_on_sigterm():
            train_teacher(TeacherConfig(**read(parser, words)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        return outcome(error)[1]
    return 0


def _our_spelling(word: str) -> str:
    """RL Baselines3 Zoo and CleanRL write ``--total-timesteps`` and ``--env-id``."""
    flag, equals, value = word.partition("=")
    if not flag.startswith("--"):
        return word
    name = flag[2:].replace("-", "_")
    return f"--{'env' if name == 'env_id' else name}{equals}{value}"


if __name__ == "__main__":
    sys.exit(main())
