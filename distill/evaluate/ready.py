"""Games at the end of a stage that trains: what they would be refused for in hours is said before it."""

from __future__ import annotations

from torch import nn

from distill.agents.agents import Agent
from distill.attack.ready import find_source, try_out
from distill.errors import UserError
from distill.evaluate.run import ANOTHER, evaluate
from distill.evaluate.settings import EvaluateRun
from distill.records.scores import Scores


def check_games(config: EvaluateRun, net: nn.Module, preset: str) -> None:
    """Refuse a video that cannot be written, and an attack that cannot be made.

    Args:
        config: settings of the evaluation to come.
        net: a network as the student's, which is not used afterwards.
        preset: what it sees.

    Raises:
        UserError: as ``evaluate``.
    """
    if config.evaluate.capture_video:
        from distill.agents.video import require_video

        require_video()
    if config.evaluate.attack is not None:
        student = Agent("student", "student", net, "", preset)
        source = find_source(config, config.threat, [student])
        try_out([config.evaluate.attack], [student], source, config.threat, config.env)


def play_within(config: EvaluateRun, remedy: str) -> Scores:
    """``evaluate`` into a folder of the stage's own: where another one would help, ``remedy`` is what to do instead."""
    try:
        return evaluate(config)
    except UserError as error:
        raise UserError(str(error).replace(ANOTHER, remedy)) from error
