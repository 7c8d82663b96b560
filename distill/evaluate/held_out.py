"""How close a student is to its teacher on its held-out games, beside the scores of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from distill.agents.agents import Agent
from distill.batches.loader import Loader
from distill.dataset.reader import Dataset
from distill.dataset.used import held_out, tell_repeats
from distill.engine.step import make_engine
from distill.errors import UserError
from distill.evaluate.settings import EvaluateRun
from distill.figures.fidelity import figures_of
from distill.figures.figure import chosen
from distill.losses.settings import ObjectiveConfig
from distill.records.data import OwnGames
from distill.records.scores import FIGURE, REPEATS
from distill.system.progress import console
from distill.system.streams import Stream, numbered

Measured = dict[str, float | None]
"""Figures by name."""


def check_data(config: EvaluateRun, agents: Sequence[Agent], dataset: Dataset) -> None:
    """Refuse states of another game, and say whose figures there will be none of."""
    if dataset.task.game != config.env:
        raise UserError(f"--evaluate.data={dataset.folder} is of {dataset.task.game}, not {config.env}; name another")
    unknown = [agent.name for agent in agents if agent.exported]
    if all(agent.student is None for agent in agents):
        unknown = [agent.name for agent in agents]
    if unknown:
        console.print(f"not measured on {dataset.folder}, since only students with papers are: {', '.join(unknown)}")


def on_own_games(config: EvaluateRun, agent: Agent) -> bool:
    """Whether a student's figures are on states that it played itself, as papers of online trainings have them."""
    if config.evaluate.data is not None or agent.student is None:
        return False
    return isinstance(agent.student.training.data, OwnGames)


def fidelity(config: EvaluateRun, agent: Agent, dataset: Dataset | None, device: torch.device) -> Measured | None:
    """A student's fidelity on its held-out games: as measured after its training, or on ``evaluate.data``.

    What was measured after an online training is on other states: see ``on_own_games``.
    """
    if agent.student is None:
        return None
    training, figures = agent.student.training, chosen(config.evaluate.figures)
    if dataset is None:
        return {figure.name: training.metrics.get(f"{FIGURE}{figure.name}") for figure in figures}
    if not training.teacher:
        raise UserError(f"student {agent.what} learned from no teacher; leave --evaluate.data out")
    if dataset.identity.teacher != training.teacher:
        raise UserError(f"student {agent.what} learned from another teacher than the one of {dataset.folder}")
    agent.student.task.refuse_other(dataset.task, f"student {agent.what}", "name other --evaluate.data")
    held = held_out(dataset, training)
    index = np.sort(numbered(Stream.HELD_OUT, training.seed).permutation(held)[: config.evaluate.val_states])
    share = tell_repeats(agent.name, training, dataset, index)
    net, loader = agent.net.to(device), Loader(dataset, ObjectiveConfig(), device, config.seed, None)
    measured = figures_of(net, make_engine(net), loader, index, training.temperature, figures)
    return {**measured, REPEATS: share} if share > 0 else {**measured}
