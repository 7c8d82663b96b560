"""Make a teacher, or a better one, with stable-baselines3's PPO.

``python -m teachers.train --env breakout --init breakout --total-timesteps 1000000 --out runs/teacher-breakout``
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from distill.errors import UserError
from distill.system.runtime import tune_process
from distill.system.settings import check_settings
from distill.system.signals import outcome, raising_on_sigterm
from distill.system.trouble import complain
from teachers.settings import MAX_SEED, TeacherConfig

FREE = ("total_timesteps", "device", "out", "checkpoint_every")


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
    from stable_baselines3.common.logger import Logger

    from distill.records.runs import describe_run
    from distill.system.progress import Bar, console
    from teachers.curve import Curve
    from teachers.keeper import Keeper, Origin, TrainingState
    from teachers.ppo import make_model

    check_settings(config)
    game, why = _game(config)
    config = dataclasses.replace(config, env=game)
    console.print(f"game: {game} ({why})")
    folder, config, fresh = _find_run(config)
    state = TrainingState.read(folder)
    final = folder / "final.zip"
    if state.timesteps >= config.total_timesteps and final.is_file():
        console.print(f"{final}: already trained for {state.timesteps:,} steps; nothing to do")
        return final
    model, env = make_model(config, folder, state)
    if fresh:  # what is refused until here leaves nothing
        describe_run(folder, dataclasses.asdict(config))
    model.set_logger(Logger(str(folder), [Curve(folder, state.timesteps)]))
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


def _find_run(config: TeacherConfig) -> tuple[Path, TeacherConfig, bool]:
    """The run's folder, the config with the seed that is used there, and whether nothing is there yet.

    Raises:
        UserError: the folder holds something else, or a run with other settings.
    """
    from distill.records.runs import differences
    from distill.system.parser import read_saved
    from distill.system.settings import fill

    folder = fill(config.out, env=config.env)
    path = folder / "config.yaml"
    if path.is_file():
        before = read_saved(path, "choose another --out")
        if config.seed is None:
            config = dataclasses.replace(config, seed=before.get("seed"))
        asked = dataclasses.asdict(config)
        changed = differences(before, asked, asked, FREE)
        if changed:
            raise UserError(f"{folder} is a different run: {'; '.join(changed)}; choose another --out")
        return folder, config, False
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a teacher's training run; choose another --out")
    if config.seed is None:
        config = dataclasses.replace(config, seed=random.SystemRandom().randrange(MAX_SEED))
        print(f"seed: {config.seed} (drawn)")
    return folder, config, True


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        Exit status: 0 done, 1 an error the user can fix, 130 Ctrl-C, 143 SIGTERM.
    """
    tune_process()
    from distill.system.parser import bring_forward, make_parser, read

    parser = make_parser("python -m teachers.train", str(__doc__), TeacherConfig)
    bring_forward(parser, TeacherConfig.FIRST, "settings that matter first")
    words = [_our_spelling(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        with raising_on_sigterm():
            train_teacher(TeacherConfig(**read(parser, words)))
    except Exception as error:
        return complain(error)
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
