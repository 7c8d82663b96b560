"""What a student's score is measured by: random play's, and its teacher's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from distill.agents.actor import Uniform
from distill.agents.episodes import Match, play
from distill.envs.games import REFERENCE_SCORES, game_info
from distill.envs.presets import Preset
from distill.envs.protocols import get_protocol
from distill.errors import UserError
from teachers.card import card_scores
from teachers.load import find_teacher
from teachers.protocol import TeacherInfo

PROTOCOL = "zoo"
"""How students play while they learn, and so whose scores they are compared with."""
RANDOM_GAMES = 32


@dataclass(frozen=True)
class Reference:
    """Mean scores of a game, the teacher's above random play's."""

    random: float
    teacher: float

    def share(self, score: float) -> float:
        """How far a score is from random play's, 0, to the teacher's, 1."""
        return (score - self.random) / (self.teacher - self.random)

    def score(self, share: float) -> float:
        """The score that is so far."""
        return self.random + share * (self.teacher - self.random)


def reference(
    teacher: TeacherInfo, preset: Preset, seed: int, given: float | None, *, setting: str, asking: str
) -> Reference:
    """Random play's score, measured where nobody has published it, and the teacher's, by its card where none is given.

    Args:
        teacher: who teaches, and what game.
        preset: what random play is played on.
        seed: of its games.
        given: the teacher's score, where the user knows it.
        setting: the setting that says so.
        asking: the setting that asks for a share of it.

    Raises:
        UserError: the teacher's score is not known, or no better than random play.
    """
    score = on_card(teacher.name, teacher.preset) if given is None else given
    if score is None:
        raise UserError(
            f"no card says what teacher {teacher.name} scores by protocol {PROTOCOL} on preset {teacher.preset}; "
            f"give its mean score as {setting} (`distill evaluate` measures it)"
        )
    random = random_score(teacher.game, preset, seed)
    if score <= random:
        raise UserError(
            f"the teacher's score, {score:g}, is not above random play's, {random:g}, so no share of it can be asked "
            f"for; leave {asking} out, or correct {setting}"
        )
    return Reference(random, score)


def on_card(teacher: str, preset: str) -> float | None:
    """The mean score on a teacher's card, by protocol ``zoo`` on a preset; None where none says it.

    Raises:
        UserError: it cannot be found, or its card is not as it should be.
    """
    scores = card_scores(teacher, find_teacher(teacher).card)
    return next((float(one.mean) for one in scores if (one.protocol, one.preset) == (PROTOCOL, preset)), None)


def random_score(game: str, preset: Preset, seed: int) -> float:
    """Random play's mean score: the published one, or that of some games played here."""
    if game in REFERENCE_SCORES:
        return REFERENCE_SCORES[game][0]
    match = Match(Uniform(len(game_info(game).actions)), game, preset, get_protocol(PROTOCOL), torch.device("cpu"))
    games = play(match, games=RANDOM_GAMES, num_envs=RANDOM_GAMES // 2, seed=seed)
    return float(np.mean([one.score for one in games]))
