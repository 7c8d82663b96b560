"""``distill finetune``: play a rollout, learn from it. Read ``finetune`` from top to bottom."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from stable_baselines3.common.logger import Logger

from distill.envs.ale_vec import MAX_SEED
from distill.envs.presets import get_preset
from distill.errors import DivergedError
from distill.finetune.critic import CriticWarmup
from distill.finetune.policy import StudentPolicy
from distill.finetune.ppo import TaughtPPO, TaughtRollouts
from distill.finetune.progress import MIN_GAMES, BestSaver, Progress, is_finished, open_run, restore
from distill.finetune.results import BEST, last_fidelity, report, write_student
from distill.finetune.settings import FinetuneRun
from distill.finetune.setup import Start, reference_of, second_preset, set_up
from distill.finetune.watch import Labels, ScoreBar, Watch
from distill.networks.nets import count_parameters
from distill.records.loggers import Loggers
from distill.records.runs import how_to_go_on
from distill.system.device import pick_device
from distill.system.files import remove_leftovers, replace_folder, settle_folder
from distill.system.progress import console
from distill.system.streams import generator
from distill.train.hooks import Hook, Hooks
from distill.train.logs import Log
from distill.train.network import network_text
from distill.train.saver import Kept
from teachers.ppo import linear
from teachers.protocol import Teacher
from teachers.sb3_vec import AtariVecSB3


def finetune(config: FinetuneRun, hooks: Sequence[Hook] = ()) -> Path:
    """See ``distill.config.stages.finetune``, which checks ``config`` first."""
    c, device = config.finetune, pick_device(config.device)
    start, teacher = set_up(config)
    second = second_preset(teacher, get_preset(start.task.preset))
    known = reference_of(config, start, teacher)
    progress = Progress(teacher=None if teacher is None else teacher.info.fingerprint, start=start.fingerprint)
    progress.warmed = start.fingerprint is None or c.critic_warmup == 0
    with contextlib.ExitStack() as held:
        folder, resuming = open_run(config, start.student.in_folders, held)
        if is_finished(folder, progress):
            console.print(f"{folder}: already trained; nothing to do")
            return folder
        with contextlib.ExitStack() as stack:
            enter = stack.enter_context
            seed = int(generator("finetune", config.seed, 0).integers(MAX_SEED // 2))
            env = AtariVecSB3(config.env, c.num_envs, get_preset(start.task.preset), seed=seed, second=second)
            enter(contextlib.closing(env))
            model = make_model(config, start, env, seed)
            again = how_to_go_on(c.out, folder, "--finetune.out", newest=c.resume)
            kept = Kept(model.policy, model.policy.optimizer, progress, config.to_dict(), again)
            if resuming:
                settle_folder(folder / BEST, own=True)
                restore(folder, device, kept)
                progress = kept.progress
                env.seed(int(generator("finetune", config.seed, progress.states).integers(MAX_SEED // 2)))
            describe(config, start, teacher)
            labels = None if teacher is None else Labels(teacher, device)
            saver = BestSaver(
                folder, kept, c.checkpoint_every,
                lambda: replace_folder(
                    folder / BEST, lambda new: write_student(config, new, start, teacher, progress, progress.compared)
                ),
                min(MIN_GAMES, c.score_games),
            )  # fmt: skip
            loggers = Loggers(c.loggers, folder, progress.states)
            bar = ScoreBar(f"finetune {config.env}", "states", c.states, progress.states)
            watching = Hooks([Log(loggers, lambda now: now.states), bar, *hooks, saver])
            watch = Watch(config, progress, watching, saver.check, labels, known)
            for context in (saver, contextlib.closing(loggers), bar):
                enter(context)
            learn(config, model, watch, progress, folder)
            fidelity = {} if labels is None else vars(last_fidelity(model, env, labels, c.val_states, config.env))
        write_student(config, folder / "student", start, teacher, progress, fidelity)
        remove_leftovers(folder, below=True)
        report(folder, progress, fidelity)
        return folder


def make_model(config: FinetuneRun, start: Start, env: AtariVecSB3, seed: int) -> TaughtPPO:
    """PPO around the student's network, which it shares."""
    c = config.finetune
    model = TaughtPPO(
        StudentPolicy,
        env,
        learning_rate=linear(c.learning_rate),
        clip_range=linear(c.clip_range),
        rollout_buffer_class=TaughtRollouts,
        policy_kwargs={"net": start.net},
        seed=seed,
        device=pick_device(config.device),
        **c.of_model(),
    )
    model.clipped_kl = c.clipped_kl
    model.set_logger(Logger(None, []))  # figures go to the hooks
    return model


def learn(config: FinetuneRun, model: TaughtPPO, watch: Watch, progress: Progress, folder: Path) -> None:
    """Play and learn until all states are played.

    Raises:
        DivergedError: saying what is left.
    """
    c = config.finetune
    if not progress.warmed:
        model.before = warming_up(model, CriticWarmup(model.policy, c.critic_warmup, c.gamma), progress)
    model.num_timesteps = progress.states
    try:
        model.learn(c.states - progress.states, watch, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
    except DivergedError as error:
        last = folder / "checkpoints" / "last.pt"
        good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint had been saved yet"
        raise DivergedError(f"finetuning stopped: {error}; {good}; try a lower --finetune.learning_rate") from error


def warming_up(model: TaughtPPO, warmup: CriticWarmup, progress: Progress) -> Callable[[], bool]:
    """What takes the place of updates until the value head is fitted."""

    def instead() -> bool:
        if progress.warmed:
            return False
        if warmup.add(model.rollout_buffer):
            assert model._last_episode_starts is not None
            before, fitted, states = warmup.fit(model._last_episode_starts)
            progress.warmed = True
            best = "not a reward was seen" if math.isnan(fitted) else f"it explains {max(before, fitted):.0%}"
            console.print(
                f"value head: {'left as it was' if before >= fitted else 'fitted'} on {states:,} returns "
                f"({best}); now the policy moves"
            )
        return True

    return instead


def describe(config: FinetuneRun, start: Start, teacher: Teacher | None) -> None:
    """Print what is about to happen."""
    c = config.finetune
    taught = "from reward alone"
    if teacher is not None and c.teacher_weight > 0:
        taught = f"from reward and {teacher.info.name} (weight {c.teacher_weight:g}, {c.schedule})"
    fresh = "fresh weights" if c.init is None else c.init
    console.print(
        f"{network_text(start.student)} ({count_parameters(start.net):,} parameters, {fresh}) learns {taught}, in "
        f"{c.num_envs} games on preset {start.task.preset}, seed {config.seed}"
    )
