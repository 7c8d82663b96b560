"""``distill imitate``: play a little, learn a little. Read ``imitate`` from top to bottom."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import nn

from distill.agents.actor import Policy
from distill.envs.presets import Preset
from distill.figures.fidelity import Fidelity
from distill.imitate.curve import Curve, CurveBar, Rates, Tally
from distill.imitate.learner import Learner
from distill.imitate.player import Played, Player
from distill.imitate.progress import LAST_GAMES, Progress, make_saver, open_run, restore
from distill.imitate.results import last_fidelity, write_student, write_teacher_zip
from distill.imitate.ring import Ring
from distill.imitate.schedule import budget_used, learning_rate, teacher_share, term_weights
from distill.imitate.settings import ImitateRun
from distill.imitate.setup import check_settings, make_objective, make_student, student_preset
from distill.networks.nets import count_parameters
from distill.records.loggers import Loggers
from distill.records.runs import how_to_go_on
from distill.students.folder import is_student
from distill.system.device import pick_device
from distill.system.files import remove_leftovers
from distill.system.progress import console, print_table
from distill.system.runtime import torch_threads
from distill.system.streams import seed_weights
from distill.train.hooks import Hook, Hooks
from distill.train.logs import Log
from distill.train.network import network_text
from distill.train.saver import Kept
from teachers.load import load_teacher
from teachers.protocol import TeacherInfo


def imitate(config: ImitateRun, hooks: Sequence[Hook] = ()) -> Path:
    """See ``distill.config.stages.imitate``, which checks ``config`` first."""
    c, device = config.imitate, pick_device(config.device)
    teacher = load_teacher(
        config.teacher, game=config.env, tau=config.tau, preset=config.teacher_preset, recorded=config.preset
    )
    check_settings(config, teacher)
    preset = student_preset(config, teacher.info)
    seed_weights(config.seed)
    net = make_student(config, teacher.info).to(device)
    folder, resuming = open_run(config)
    if is_student(folder):
        console.print(f"{folder}: already trained; nothing to do")
        return folder
    learner = Learner(config, net, device, make_objective(config), folder)
    again = how_to_go_on(c.out, folder, "--imitate.out", newest=c.resume)
    kept = Kept(net, learner.optimizer, Progress(teacher=teacher.info.fingerprint), config.to_dict(), again)
    if resuming:
        restore(folder, device, kept)
    progress: Progress = kept.progress
    columns = {"logits": (teacher.info.num_actions,), "value": (), "reward": (), "end": ()}
    ring = Ring(c.num_envs, c.ring, columns, preset.padding_type)
    describe(config, net, teacher.info, preset)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(torch_threads(0.5))  # who plays and who learns share the cores
        player = enter(Player(config, preset, teacher, device, progress.next_game))
        side = enter(ThreadPoolExecutor(1))
        tally = enter(_watching(config, folder, kept, hooks))
        clock = time.perf_counter() - progress.seconds
        while (used := budget_used(progress.states, progress.seconds, c.states, c.minutes)) < 1:
            rate = learning_rate(used, c.learning_rate, c.final_learning_rate)
            share = teacher_share(used, c.teacher_share, c.teacher_share_until)
            student = Policy(copy.deepcopy(net).eval(), device)  # plays with these weights while new ones are learned
            playing = side.submit(player.play, student, c.steps_per_turn, share)
            updates = c.updates_per_turn if len(ring) >= c.learning_starts else 0
            weights = term_weights(learner.objective, used, c.states, c.minutes)
            learned = [learner.update(ring, progress.step + update, rate, weights) for update in range(updates)]
            played = playing.result()
            ring.extend(played.rows)
            advance(progress, played, updates, player.games.next_episode, time.perf_counter() - clock)
            tally.add(played, learned, Rates(rate, share, weights))
        tally.end()
        fidelity = last_fidelity(config, Policy(net.eval(), device), player, ring, folder)
    write_student(config, folder, net, teacher.info, progress, fidelity)
    teacher_zip = write_teacher_zip(config, net, teacher.info, progress, ring)
    remove_leftovers(folder, below=True)
    report(folder, progress, fidelity, player.seconds | learner.seconds, teacher_zip)
    return folder


@contextlib.contextmanager
def _watching(config: ImitateRun, folder: Path, kept: Kept, hooks: Sequence[Hook]) -> Iterator[Tally]:
    """What adds up the turns, and whom it tells of them: loggers, bar, the user's hooks, and last who saves."""
    c, progress = config.imitate, kept.progress
    with (
        make_saver(folder, kept, c.checkpoint_every) as saver,
        Loggers(c.loggers, folder, progress.states) as loggers,
        CurveBar(config, progress) as bar,
    ):
        watching = Hooks([Log(loggers, lambda now: now.states), bar, *hooks, saver])
        tally = Tally(progress, config.objective.temperature, c.log_every, Curve(folder, progress.states), watching)
        tally.start()
        yield tally


def describe(config: ImitateRun, net: nn.Module, teacher: TeacherInfo, preset: Preset) -> None:
    """Print what is about to happen."""
    console.print(
        f"{network_text(config.student)} ({count_parameters(net):,} parameters) learns from {teacher.name}, which sees "
        f"preset {teacher.preset}, in {config.imitate.num_envs} games on preset {preset.name}, seed {config.seed}"
    )


def advance(progress: Progress, played: Played, updates: int, next_game: int, seconds: float) -> None:
    """Take a turn into account."""
    progress.turn += 1
    progress.step += updates
    progress.states += played.states
    progress.seconds = seconds
    progress.next_game = next_game
    progress.games += len(played.games)
    progress.scores = [*progress.scores, *(game.score for game in played.games)][-LAST_GAMES:]


def report(
    folder: Path, progress: Progress, fidelity: Fidelity, seconds: dict[str, float], teacher_zip: Path | None
) -> None:
    """Print what came out, and where the time went."""
    last = progress.scores
    score = (
        f"{sum(last) / len(last):.1f}, mean of the last {len(last)} of {progress.games:,}" if last else "none finished"
    )
    play, learn = (
        ", ".join(f"{name} {seconds[name]:.0f} s" for name in names)
        for names in (("emulators", "teacher", "student"), ("batches", "updates"))
    )
    rows = [
        ("states", f"{progress.states:,}"),
        ("optimizer steps", f"{progress.step:,}"),
        ("score of its games", score),
        ("val/kl", f"{fidelity.kl:.4f}"),
        ("val/action_error", f"{fidelity.action_error:.1%}"),
        ("speed", f"{progress.states / max(progress.seconds, 1e-9):,.0f} states/s"),
        ("time", f"{progress.seconds:.0f} s; this time, side by side: play ({play}) and learn ({learn})"),
        ("run", str(folder)),
    ]
    rows += [] if teacher_zip is None else [("teacher's zip", str(teacher_zip))]
    print_table("imitated", ("", ""), rows)
