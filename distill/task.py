"""What an agent plays and sees: teacher, dataset, student and evaluation each have one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from distill.envs.presets import OBS_SHAPE, get_preset
from distill.errors import UserError


@dataclass(frozen=True)
class Task:
    """A game, what of it is seen, and among how many actions is chosen."""

    game: str
    """Canonical game name."""
    preset: str
    """Name of the preset; not compared, since equal hashes mean equal pixels."""
    preset_hash: str
    """Its hash."""
    num_actions: int
    """Width of the policy head, in the order of the game's minimal action set."""
    obs_shape: tuple[int, int, int] = OBS_SHAPE
    """Frames, height and width of an observation; every preset has 4, 84 and 84 and refuses others."""

    def difference(self, other: Task) -> str:
        """What differs from ``other``, as a clause to go behind what this is of; empty where nothing does.

        Only the first: another game has other actions, too.
        """
        if self.game != other.game:
            return f"is of {self.game}, not {other.game}"
        if self.preset_hash != other.preset_hash:
            mine, theirs = (f"{task.preset} ({task.preset_hash})" for task in (self, other))
            return f"is of preset {mine}, not {theirs}"
        if self.obs_shape != other.obs_shape:
            return f"is of observations of shape {self.obs_shape}, not {other.obs_shape}"
        if self.num_actions != other.num_actions:
            return f"chooses among {self.num_actions} actions, not {other.num_actions}"
        return ""

    def but(self, game: str | None = None, preset: str | None = None) -> Task:
        """The same task with what was asked for, where something was, as it is today.

        Args:
            game: canonical name.
            preset: name.
        """
        task = dataclasses.replace(self, game=game or self.game)
        if preset is None:
            return task
        return dataclasses.replace(task, preset=preset, preset_hash=get_preset(preset).hash)

    def refuse_other(self, other: Task, what: str, change: str) -> None:
        """Refuse ``what``, which is of this task, where ``other`` was asked for.

        Args:
            other: the task that it should be of.
            what: the subject of the sentence, such as ``student runs/pong``.
            change: what to do about it.

        Raises:
            UserError: naming the first difference.
        """
        difference = self.difference(other)
        if difference:
            raise UserError(f"{what} {difference}; {change}")
