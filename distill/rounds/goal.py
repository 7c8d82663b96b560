"""When the student is good enough: the lower end of its interval reaches a share of the teacher's score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distill.agents.actor import Uniform
from distill.agents.episodes import Match, play
from distill.envs.games import REFERENCE_SCORES, game_info
from distill.envs.protocols import get_protocol
from distill.errors import UserError
from distill.figures.statistics import summarise
from distill.imitate.begin import Run
from distill.imitate.progress import LAST_GAMES, Progress
from distill.rounds.settings import RoundsConfig
from distill.system.progress import console
from teachers.load import find_teacher

PROTOCOL = "zoo"
"""How the student plays its own games, and so whose scores they are compared with."""
RANDOM_GAMES = 32


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
    """The goal that the settings name, if they do; what random play scores is measured where nobody has published it.

    Raises:
        UserError: the teacher's score is not known, or no better than random play.
    """
    if rounds.until_share is None:
        return None
    teacher = rounds.teacher_score if rounds.teacher_score is not None else _on_card(run)
    random = _random(run)
    if teacher <= random:
        raise UserError(
            f"the teacher's score, {teacher:g}, is not above random play's, {random:g}, so no share of it can be asked "
            "for; leave --rounds.until_share out, or correct --rounds.teacher_score"
        )
    score = random + rounds.until_share * (teacher - random)
    console.print(
        f"goal: {score:.1f}, {rounds.until_share:.0%} of the way from random play ({random:g}) to the teacher "
        f"({teacher:g})"
    )
    return Goal(score)


def _on_card(run: Run) -> float:
    name = run.config.teacher
    scores: Any = find_teacher(name).card.get("scores")
    for entry in scores if isinstance(scores, list) else []:
        if isinstance(entry, dict) and (entry.get("protocol"), entry.get("preset")) == (PROTOCOL, _sees(run)):
            return float(entry["mean"])
    raise UserError(
        f"no card says what teacher {name} scores by protocol {PROTOCOL} on preset {_sees(run)}; give its mean score "
        "as --rounds.teacher_score (`distill evaluate` measures it)"
    )


def _sees(run: Run) -> str:
    return run.teacher.info.preset


def _random(run: Run) -> float:
    game = run.config.env
    if game in REFERENCE_SCORES:
        return REFERENCE_SCORES[game][0]
    match = Match(Uniform(len(game_info(game).actions)), game, run.preset, get_protocol(PROTOCOL), torch.device("cpu"))
    games = play(match, games=RANDOM_GAMES, num_envs=RANDOM_GAMES // 2, seed=run.config.seed)
    return float(np.mean([one.score for one in games]))
