"""``distill imitate``: play a little, learn a little. Read ``online`` from top to bottom."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from distill.agents.actor import Policy
from distill.errors import UserError
from distill.figures.fidelity import Fidelity
from distill.imitate.begin import Parts, Run, plain_parts
from distill.imitate.curve import Curve, CurveBar, Rates, Tally
from distill.imitate.learner import Learner
from distill.imitate.player import Played, Player
from distill.imitate.progress import LAST_GAMES, Progress, make_saver
from distill.imitate.results import last_fidelity, write_student, write_teacher_zip
from distill.imitate.ring import Ring
from distill.imitate.schedule import budget_used, teacher_share, term_weights
from distill.imitate.settings import ImitateRun
from distill.imitate.setup import check_online, check_plain, tell_passed_over
from distill.records.loggers import Loggers
from distill.system.files import remove_leftovers
from distill.system.progress import console, print_table
from distill.system.runtime import torch_threads
from distill.train.hooks import Hook, Hooks, Status
from distill.train.logs import Log
from distill.train.saver import Saver


def imitate(config: ImitateRun, hooks: Sequence[Hook] = ()) -> Path:
    """See ``distill.config.stages.imitate``, which checks ``config`` first."""
    check_online(config)
    check_plain(config)
    tell_passed_over(config)
    run = Run(config)
    with contextlib.ExitStack() as stack:
        return online(run, plain_parts(config), hooks) if run.open(stack) else run.folder


def online(run: Run, parts: Parts, hooks: Sequence[Hook] = ()) -> Path:
    """Play and learn until the budget is used up; returns the run folder.

    Args:
        run: what it begins with, opened.
        parts: what it is given besides.
        hooks: watch it, besides the toolkit's own.
    """
    config, c, progress, device = run.config, run.config.imitate, run.progress, run.device
    learner = Learner(config, run.kept, device, parts.objective, run.folder, parts.fresh)
    columns = {"logits": (run.teacher.info.num_actions,), "value": (), "reward": (), "end": ()}
    ring = Ring(c.num_envs, c.ring, columns, run.preset.padding_type)
    run.describe()
    if progress.states:
        console.print("the ring is not saved, so it fills again from new games before the student learns")
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(torch_threads(0.5))  # who plays and who learns share the cores
        player = enter(start_playing(run, parts))
        side = enter(ThreadPoolExecutor(1))
        budget = c.states, c.minutes
        pace = Pace(*budget, lambda now: now.states, c.checkpoint_every, c.log_every)
        tally, _ = enter(watching(run, parts, hooks, pace))
        clock = time.perf_counter() - progress.seconds
        while (used := budget_used(progress.states, progress.seconds, *budget)) < 1 and not parts.enough(progress):
            rate, share = parts.rate(used), teacher_share(used, c.teacher_share, c.teacher_share_until)
            # It plays with these weights while new ones are learned.
            student = Policy(run.copied(), device, lane=progress.states)
            playing = side.submit(player.play, student, c.steps_per_turn, share)
            updates = c.updates_per_turn if len(ring) >= c.learning_starts else 0
            weights = term_weights(learner.objective, used, *budget)
            learned = [learner.update(ring, progress.step + update, rate, weights) for update in range(updates)]
            played = playing.result()
            ring.extend(played.rows)
            advance(progress, played, updates, player.games.next_episode, time.perf_counter() - clock)
            if parts.keeper is not None:
                parts.keeper.add(played)
            tally.add(played, learned, Rates(rate, share, weights))
        tally.end()
        refuse_unlearned(run, parts, "lower --imitate.learning_starts")
        if parts.keeper is not None:
            parts.keeper.settle()
        fidelity = last_fidelity(run, Policy(run.net.eval(), device, lane=progress.states), player, ring)
    finish(run, parts, fidelity, ring, player.seconds | learner.seconds)
    return run.folder


@contextlib.contextmanager
def start_playing(run: Run, parts: Parts) -> Iterator[Player]:
    """A player of games that were never played before, and whoever keeps them."""
    first, keeper = run.progress.next_game, parts.keeper
    if keeper is not None:
        first = max(first, keeper.writer.next_episode)  # shards may be newer than the checkpoint
        run.progress.next_game = first
    with contextlib.ExitStack() as stack:
        player = stack.enter_context(Player(run.config, run.preset, run.teacher, run.device, first, keeper))
        if keeper is not None:
            stack.enter_context(keeper.attach(player))
        yield player


@dataclass(frozen=True)
class Pace:
    """How far a run is to go, and when something is to be done on the way."""

    states: int | None
    """Budget; None for none."""
    minutes: float | None
    """Budget; None for none."""
    checkpoints: Callable[[Status], int]
    """What checkpoints are counted by, states or steps ..."""
    checkpoint_every: int
    """... and how many of these are between two."""
    log_every: float
    """States between two points."""


@contextlib.contextmanager
def watching(run: Run, parts: Parts, hooks: Sequence[Hook], pace: Pace) -> Iterator[tuple[Tally, Saver]]:
    """What adds up the turns, and whom it tells of them: loggers, bar, the user's hooks, and last who saves."""
    config, c, folder, progress = run.config, run.config.imitate, run.folder, run.progress
    with (
        make_saver(folder, run.kept, pace.checkpoint_every, pace.checkpoints) as saver,
        Loggers(c.loggers, folder, progress.states) as loggers,
        CurveBar(f"imitate {config.env}", pace.states, pace.minutes, progress) as bar,
    ):
        if parts.keeper is not None:
            saver.save()  # so that states that are kept have a run that they are of
        told = Hooks([Log(loggers, lambda now: now.states), bar, *hooks, saver])
        tally = Tally(progress, config.objective.temperature, pace.log_every, Curve(folder, progress.states), told)
        tally.start()
        yield tally, saver


def refuse_unlearned(run: Run, parts: Parts, sooner: str) -> None:
    """No student is made of a run that ended before its first step.

    Raises:
        UserError: saying what to change; ``sooner`` is what lets it learn sooner.
    """
    if run.progress.step == 0 and not parts.enough(run.progress):
        raise UserError(
            f"{run.folder}: the budget ended after {run.progress.states:,} states, before anything was learned; raise "
            f"--imitate.minutes or --imitate.states, or {sooner}, with another --imitate.out"
        )


def finish(run: Run, parts: Parts, fidelity: Fidelity, ring: Ring | None, seconds: dict[str, float]) -> None:
    """Write what a run leaves, and print what came out."""
    teacher_zip = write_teacher_zip(run, ring)
    write_student(run, parts, fidelity)  # a run that has it is over, so all else is there before
    remove_leftovers(run.folder, below=True)
    report(run, fidelity, seconds, teacher_zip, None if parts.keeper is None else parts.keeper.writer.folder)


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
    run: Run, fidelity: Fidelity, seconds: dict[str, float], teacher_zip: Path | None, kept: Path | None
) -> None:
    """Print what came out, and where the time went."""
    progress = run.progress
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
        ("run", str(run.folder)),
    ]
    rows += [] if kept is None else [("data set", str(kept))]
    rows += [] if teacher_zip is None else [("teacher's zip", str(teacher_zip))]
    print_table("imitated", ("", ""), rows)
