"""TensorBoard's curves of attack.json: figures of an agent under each method, over eps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from distill.attack.rows import Row, whose
from distill.records.tensorboard import EVENTS

TAGS = "attack/"
FIGURES = ("action_error", "kl", "flips")


def write_curves(folder: Path, asked: Sequence[Row], rows: Sequence[Row]) -> None:
    """A curve for each method, in place of those of earlier commands.

    Args:
        folder: has a folder for each agent.
        asked: rows of the agents that are written, under their names of today.
        rows: all that there are.
    """
    for name, agent in {row["agent"]: whose(row) for row in asked}.items():
        _clear(folder / name)
        with SummaryWriter(str(folder / name)) as writer:
            for row in rows:
                if whose(row) == agent and row["method"] is not None:
                    for figure in FIGURES:
                        writer.add_scalar(f"{TAGS}{row['method']}/{figure}", row[figure], step_of(row["eps"]))


def step_of(eps: float | None) -> int:
    """Steps are whole numbers, so hundredths of a gray level; 0 where eps does not matter."""
    return round(100 * (eps or 0))


def _clear(folder: Path) -> None:
    """Remove event files that have such curves and nothing else: others may be of games in the same folder."""
    for file in folder.glob(f"{EVENTS}*"):
        tags = EventAccumulator(str(file)).Reload().Tags()["scalars"]
        if tags and all(tag.startswith(TAGS) for tag in tags):
            file.unlink()
