"""When the student is good enough: the lower end of its interval reaches a share of the teacher's score."""

from __future__ import annotations

import numpy as np

from distill.agents.reference import reference
from distill.figures.statistics import summarise
from distill.imitate.begin import Run
from distill.imitate.progress import LAST_GAMES, Progress
from distill.rounds.settings import RoundsConfig
from distill.system.progress import console


class Goal:
    """Whether the last whole games, that the student played alone, show that it is good enough.

    Args:
        score: what the lower end of the 95 % interval of their mean must reach.
    """

    def __init__(self, score: float) -> None:
        self.score = score
        self._games, self._reached = 0, False

    def __call__(self, progress: Progress) -> bool:
        """Asked again only after another game: an interval takes milliseconds."""
        if progress.games != self._games and len(progress.scores) == LAST_GAMES:
            self._games = progress.games
            lower = summarise(progress.scores).ci95[0]
            if not self._reached and lower >= self.score:
                mean = np.mean(progress.scores)
                console.print(
                    f"good enough: {mean:.1f} in its last {LAST_GAMES} games, at least {lower:.1f} with 97.5 % "
                    f"confidence; {self.score:.1f} was asked for"
                )
            self._reached = lower >= self.score
        return self._reached


def make_goal(rounds: RoundsConfig, run: Run) -> Goal | None:
    """The goal that the settings name, if they do.

    Raises:
        UserError: the teacher's score is not known, or no better than random play.
    """
    if rounds.until_share is None:
        return None
    known = reference(
        run.teacher.info, run.preset, run.config.seed, rounds.teacher_score,
        setting="--rounds.teacher_score", asking="--rounds.until_share",
    )  # fmt: skip
    score = known.score(rounds.until_share)
    console.print(
        f"goal: {score:.1f}, {rounds.until_share:.0%} of the way from random play ({known.random:g}) to the teacher "
        f"({known.teacher:g})"
    )
    return Goal(score)
