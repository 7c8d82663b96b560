"""What is kept of a teacher in training: checkpoints to continue from, the best agent, the final one."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from distill.envs.games import env_id
from distill.errors import UserError
from distill.system.files import in_memory, read_json, sha256, write_bytes, write_json
from distill.system.progress import Bar
from distill.system.signals import StopRequest

MIN_GAMES = 10
# What SB3 would pickle as code, or as bulk that nobody needs: PPO.load puts its defaults there.
LEFT_OUT = ("learning_rate", "lr_schedule", "clip_range", "tensorboard_log", "ep_info_buffer", "ep_success_buffer",
            "_last_obs", "_last_episode_starts", "_last_original_obs")  # fmt: skip


@dataclass(frozen=True)
class TrainingState:
    """Where training stands; ``progress.json``, written after the checkpoint that it names."""

    checkpoint: str | None = None
    """File name of the newest checkpoint."""
    timesteps: int = 0
    """Agent steps learned from, over all lanes."""
    seconds: float = 0.0
    """Time spent so far."""
    best_score: float | None = None
    """Mean return of the best agent so far."""
    games: list[tuple[float, int]] = field(default_factory=list)
    """Return and length of the last games, at most 100."""
    sha256: str | None = None
    """Checksum of the checkpoint; None where the last version wrote it."""

    @staticmethod
    def read(folder: Path) -> TrainingState:
        """State of the run in ``folder``; a fresh one where it has not saved yet."""
        path = folder / "progress.json"
        if not path.exists():
            return TrainingState()
        try:
            state = TrainingState(**read_json(path, "training state"))
        except TypeError as error:
            raise UserError(f"{path} is not a training state of this toolkit; choose another --out") from error
        if state.checkpoint is None or not (folder / state.checkpoint).is_file():
            raise UserError(f"{path} names a checkpoint that is missing; put it back or choose another --out")
        if state.sha256 not in (None, sha256(folder / state.checkpoint)):
            raise UserError(
                f"{folder / state.checkpoint} is not a readable checkpoint (it does not match its checksum); "
                "put it back or choose another --out"
            )
        return state


@dataclass(frozen=True)
class Origin:
    """What a model card says of how an agent came to be."""

    game: str
    """Canonical game name."""
    preset: str
    """Preset it was trained on."""
    init: str | None
    """Agent whose weights it started from."""
    settings: str
    """Settings it was trained with, as YAML."""
    algorithm: str = "PPO"
    """In one word."""
    method: str = "with stable-baselines3's PPO"
    """The same as part of a sentence."""


class Keeper(BaseCallback):
    """Saves while PPO learns, and stops it between two steps when asked to.

    Args:
        folder: the run's folder.
        origin: goes on the cards.
        state: where training stands.
        every: timesteps between checkpoints.
        bar: a progress bar, already started.
    """

    def __init__(self, folder: Path, origin: Origin, state: TrainingState, every: int, bar: Bar) -> None:
        super().__init__()
        self.folder, self.origin, self.state, self.every = folder, origin, state, every
        self.stop = StopRequest()
        self._bar, self._began = bar, time.monotonic() - state.seconds
        self._learned = state.timesteps

    def save(self) -> None:
        """Write a checkpoint of the last whole update, and the best agent if this is one."""
        assert isinstance(self.model, PPO)
        games = [(float(game["r"]), int(game["l"])) for game in self.model.ep_info_buffer or ()]
        score, best = self._score()[0], self.state.best_score
        if len(games) >= MIN_GAMES and (best is None or score > best):
            best = score
            self.save_agent("best")
        name = f"checkpoint-{self._learned:09d}.zip"
        played, self.model.num_timesteps = self.model.num_timesteps, self._learned
        _save_zip(self.model, self.folder / name)
        self.model.num_timesteps = played
        previous = self.state.checkpoint
        seconds = round(time.monotonic() - self._began, 1)
        self.state = TrainingState(name, self._learned, seconds, best, games, sha256(self.folder / name))
        write_json(self.folder / "progress.json", asdict(self.state))
        if previous not in (None, name):
            (self.folder / str(previous)).unlink(missing_ok=True)

    def save_agent(self, name: str) -> Path:
        """Write ``name``.zip, without the optimizer's memory, and its model card; return the zip."""
        assert isinstance(self.model, PPO)
        policy, path = self.model.policy, self.folder / f"{name}.zip"
        optimizer = policy.optimizer
        policy.optimizer = type(optimizer)(policy.parameters(), **optimizer.defaults)
        # A card that names another file's checksum is refused, so a kill between the two must leave none.
        path.with_suffix(".md").unlink(missing_ok=True)
        try:
            _save_zip(self.model, path)
        finally:
            policy.optimizer = optimizer
        write_bytes(path.with_suffix(".md"), card(path, self.origin, self._learned, *self._score()).encode())
        return path

    def diverged(self) -> UserError:
        """The error that says so, and what is left."""
        name = self.state.checkpoint
        good = f"the last good checkpoint is {self.folder / name}" if name else "no checkpoint had been saved yet"
        return UserError(
            f"training diverged after step {self._learned:,}, the network gives NaN or Inf; {good}; "
            "start again in another --out with a lower --learning_rate"
        )

    def _score(self) -> tuple[float, int]:
        games = [game["r"] for game in self.model.ep_info_buffer or ()]
        return (float(np.mean(games)) if games else float("nan")), len(games)

    def _on_rollout_start(self) -> None:
        self._refuse_nan()
        if self._learned - self.state.timesteps >= self.every:
            self.save()

    def _on_step(self) -> bool:
        score, games = self._score()
        note = f"return {score:.1f} over {games} games" if games else ""
        self._bar.update(self.model.num_timesteps, note)
        return not self.stop.asked

    def _on_rollout_end(self) -> None:
        # An update follows for certain; a rollout that is cut off does not get here and teaches nothing.
        self._learned = self.model.num_timesteps

    def _on_training_end(self) -> None:
        self._refuse_nan()

    def _refuse_nan(self) -> None:
        if not all(torch.isfinite(weights).all() for weights in self.model.policy.parameters()):
            raise self.diverged()


def card(path: Path, origin: Origin, timesteps: int, score: float, games: int) -> str:
    """A model card: front matter that ``load_teacher`` and the Hugging Face hub read, and text for people."""
    fields: dict[str, Any] = {
        "game": origin.game,
        "algorithm": origin.algorithm,
        "preset": origin.preset,
        "sha256": sha256(path),
        "timesteps": timesteps,
        "library_name": "stable-baselines3",
        "tags": [env_id(origin.game), "reinforcement-learning", "stable-baselines3", "atari"],
    }
    how = "No game had ended yet when it was saved, so its score is unknown."
    if games:
        fields["scores"] = [{"protocol": "training", "preset": origin.preset, "mean": round(score, 2), "games": games}]
        how = (
            f"Mean return of the last {games} games of training: **{score:.1f}**. Whole games (all lives), raw reward, "
            "sampled actions, no sticky actions; played while the agent was still learning, so `distill evaluate` may "
            "give another figure."
        )
    start = f"the weights of `{origin.init}`" if origin.init else "random weights"
    return (
        f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n\n"
        f"# {origin.game}: {origin.algorithm}, {timesteps:,} steps\n\n"
        f"Trained from {start} {origin.method} on preset `{origin.preset}`.\n\n{how}\n\n"
        f"```yaml\n{origin.settings}\n```\n"
    )


def _save_zip(model: PPO, path: Path) -> None:
    write_bytes(path, in_memory(lambda file: model.save(file, exclude=LEFT_OUT)))
