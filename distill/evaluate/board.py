"""An evaluation in TensorBoard: a student's score joins its training's row in the HPARAMS tab (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from distill.agents.agents import Agent
from distill.records.scores import Scores
from distill.records.tensorboard import SCORE, add_figures, write_figures
from distill.system.progress import console


def log_scores(folder: Path, agents: Sequence[Agent], scores: Scores) -> None:
    """Write the scores of a student into its run, those of anyone else beside scores.json, and all returns there.

    What it scores under attack is no score of its run.

    Args:
        folder: of scores.json.
        agents: who played.
        scores: what scores.json says.
    """
    for agent in agents:
        played = scores.agents[agent.name]
        figures = {
            SCORE: played.mean,
            "whole_games/mean_ep_length": float(np.mean(played.lengths)),
            "whole_games/human_normalized_score": played.human_normalized,
        }
        with SummaryWriter(str(folder / agent.name)) as writer:
            writer.add_histogram("whole_games/returns", np.array(played.returns), 0)
            if scores.attack or not _joins_run(agent, figures):
                add_figures(writer, 0, figures)


def _joins_run(agent: Agent, figures: Mapping[str, float | None]) -> bool:
    """Write figures into the run whose student this is; False where there is none to write to.

    Another agent that a run keeps, such as its ``best-student``, has no part in the row of its student.
    """
    if agent.student is None:
        return False
    folder, run = agent.student.folder, agent.student.folder.parent
    if folder.name != "student" or not (run / "config.yaml").is_file():
        return False
    try:
        write_figures(run, agent.student.training.best_step, figures)
    except OSError as error:
        console.print(f"{run} cannot be written to ({error.strerror}), so HPARAMS will not show the score")
        return False
    return True
