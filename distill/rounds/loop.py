"""``distill rounds``: online as ``distill imitate``, or play a round, learn from all states so far, and play again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from distill.agents.actor import Policy
from distill.errors import DivergedError
from distill.imitate.begin import Parts, Run
from distill.imitate.curve import Rates, Tally
from distill.imitate.learner import diverged
from distill.imitate.loop import Pace, advance, finish, online, refuse_unlearned, start_playing, watching
from distill.imitate.player import Player
from distill.imitate.results import last_fidelity
from distill.imitate.schedule import budget_used, teacher_share
from distill.imitate.setup import check_online
from distill.rounds.lesson import Lesson
from distill.rounds.settings import RoundsRun
from distill.rounds.setup import check_eyes, check_rounds, make_parts
from distill.train.fit import Model, fit
from distill.train.hooks import Hook, Status

CHECKPOINT_STEPS = 500
"""Steps between checkpoints in a round; there is one at its end, too."""


def rounds(config: RoundsRun, hooks: Sequence[Hook] = ()) -> Path:
    """See ``distill.config.stages.rounds``, which checks ``config`` first."""
    check_rounds(config)
    if config.rounds.form == "online":
        check_online(config)
    run = Run(config)
    check_eyes(config, run.teacher.info)
    with contextlib.ExitStack() as stack:
        if not run.open(stack):
            return run.folder
        parts = make_parts(run, config)
        return online(run, parts, hooks) if config.rounds.form == "online" else Rounds(run, config, parts).run(hooks)


class Rounds:
    """The form in rounds. What a killed run goes on with is on the disk: shards, and a checkpoint of the student.

    Args:
        run: what it begins with, opened.
        config: settings.
        parts: what it is given besides; its keeper is there.
    """

    def __init__(self, run: Run, config: RoundsRun, parts: Parts) -> None:
        assert parts.keeper is not None
        r, most = config.rounds, config.imitate.states
        self._run, self._config, self._parts, self._keeper = run, config, parts, parts.keeper
        self.states = r.count * r.states if most is None else min(r.count * r.states, most)
        """In all."""
        self.steps = -(-self.states // r.states) * r.steps
        """In all."""
        self._verify = run.resumed

    def run(self, hooks: Sequence[Hook] = ()) -> Path:
        """Play and learn until the budget is used up; returns the run folder."""
        run, progress, parts = self._run, self._run.progress, self._parts
        progress.states = self._keeper.states  # those on the disk count, whatever the last checkpoint knew
        minutes = self._config.imitate.minutes
        pace = Pace(self.states, minutes, lambda now: now.step, CHECKPOINT_STEPS, float("inf"))
        run.describe()
        with contextlib.ExitStack() as stack:
            player = stack.enter_context(start_playing(run, parts))
            tally, saver = stack.enter_context(watching(run, parts, hooks, pace))
            learned = 0.0
            while self.used < 1 and not parts.enough(progress):
                self._play(player, tally)
                tally.point()
                saver.save()  # what the play took and gave is known by nothing else that is on the disk
                if self.used < 1:
                    learned += self._learn(tally)
                    saver.save()
            tally.end()
            refuse_unlearned(run, parts, "lower --rounds.states")
            fidelity = last_fidelity(run, Policy(run.net.eval(), run.device), player, None)
        finish(run, parts, fidelity, None, player.seconds | {"batches": 0.0, "updates": learned})
        return run.folder

    @property
    def used(self) -> float:
        """Share of the budget that is used up: of the steps, which states follow, or of the time."""
        progress = self._run.progress
        return budget_used(progress.step, progress.seconds, self.steps, self._config.imitate.minutes)

    @property
    def place(self) -> int:
        """The same in steps, for schedules."""
        return min(int(self.used * self.steps + 1e-6), self.steps - 1)

    def _rates(self) -> Rates:
        c, used = self._config.imitate, self.used
        share = teacher_share(used, c.teacher_share, c.teacher_share_until)
        return Rates(self._parts.rate(used), share, self._parts.objective.weights(self.place, self.steps))

    def _play(self, player: Player, tally: Tally) -> None:
        """Play what is missing of this round's states, until all are on the disk."""
        run, progress, keeper, r = self._run, self._run.progress, self._keeper, self._config.rounds
        wanted = min((progress.step // r.steps + 1) * r.states, self.states)
        student = Policy(run.copied(), run.device, lane=keeper.states)
        clock = time.perf_counter() - progress.seconds
        while keeper.states < wanted and self.used < 1:
            rates = self._rates()
            played = player.play(student, self._config.imitate.steps_per_turn, rates.teacher_share)
            advance(progress, played, 0, player.games.next_episode, time.perf_counter() - clock)
            keeper.add(played)
            tally.add(played, [], rates)
        keeper.settle()
        progress.seconds = time.perf_counter() - clock

    def _learn(self, tally: Tally) -> float:
        """Take the round's steps, or those that a checkpoint left; returns the seconds they took."""
        run, config, progress = self._run, self._config, self._run.progress
        began, before = time.perf_counter(), progress.seconds
        lesson = Lesson(run, config, self._parts, lambda: self.place, self.steps, verify=self._verify)
        self._verify = False  # what is new since then was written by this process
        progress.seconds = before + time.perf_counter() - began
        last = (progress.step // config.rounds.steps + 1) * config.rounds.steps
        c, rate = config.imitate, self._parts.rate
        model = Model(
            run.net, run.kept.optimizer, lambda step, total: rate(self.used), self.steps, lesson.batch_size,
            c.max_grad_norm, progress,
        )  # fmt: skip
        told = _Told(tally, self._rates().teacher_share)
        try:
            fit(
                model, lesson.batches(progress.step, last), lesson, told, lambda now: now.step >= last or self.used >= 1
            )
        except DivergedError as error:
            raise diverged(run.folder, str(error)) from error
        return time.perf_counter() - began


class _Told(Hook):
    """Passes the steps of a round on."""

    def __init__(self, tally: Tally, teacher_share: float) -> None:
        self._tally, self._share = tally, teacher_share

    def stepped(self, now: Status) -> None:
        """See ``Hook``."""
        assert now.losses is not None
        assert now.grad_norm is not None
        self._tally.learn(now.losses, now.grad_norm, Rates(now.learning_rate, self._share, now.weights))
