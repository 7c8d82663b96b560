"""What goes on beside PPO: the teacher labels, games are counted, figures are told, checkpoints are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance

from distill.agents.actor import Policy
from distill.agents.reference import Reference
from distill.errors import UserError
from distill.finetune.ppo import Float32, TaughtPPO
from distill.finetune.progress import Progress
from distill.finetune.schedule import teacher_weight
from distill.finetune.settings import FinetuneRun
from distill.losses.divergence import action_error, kl
from distill.system.progress import Bar
from distill.train.hooks import Hook, Status
from teachers.protocol import Teacher
from teachers.sb3_vec import AtariVecSB3

PIECE = 256
"""States that the teacher is asked about at once, and of a rollout those that it is compared on."""
UInt8 = npt.NDArray[np.uint8]


class Labels:
    """The teacher's logits, (B, A), of uint8 (B, 4, 84, 84).

    Args:
        teacher: who labels.
        device: where it runs.
    """

    def __init__(self, teacher: Teacher, device: torch.device) -> None:
        self._policy, self._name = Policy(teacher.net, device), teacher.info.name

    def __call__(self, obs: UInt8) -> Float32:
        """Raises a UserError for NaN or infinite logits."""
        pieces = [obs[start : start + PIECE] for start in range(0, len(obs), PIECE)]
        logits: Float32 = np.concatenate([self._policy.logits(piece).numpy() for piece in pieces])
        if not np.isfinite(logits).all():
            raise UserError(
                f"teacher {self._name} gives NaN or infinite logits; its weights are damaged or far too large, "
                "so nothing can be learned from it"
            )
        return logits


class ScoreBar(Bar, Hook):
    """A progress bar over the states."""

    def measured(self, now: Status, figures: Mapping[str, float]) -> None:
        """See ``Hook``."""
        notes = [f"score {figures['play/score']:.1f}" if "play/score" in figures else "no game finished yet"]
        for tag, name in (("play/kl", "KL"), ("train/value_loss", "value loss")):
            notes += [f"{name} {figures[tag]:.3f}"] if tag in figures else []
        self.update(now.states, ", ".join([*notes, f"{figures['play/fps']:,.0f}/s"]))


class Watch(BaseCallback):
    """Between rollouts and updates.

    Args:
        config: settings.
        progress: where the run stands; changed here.
        hooks: are told of every update and every point.
        check: raises KeyboardInterrupt where one was asked for; nothing is learned of a rollout that is cut off.
        labels: the teacher's; None where nobody teaches.
        reference: what scores are compared with, for schedule=score.
    """

    model: TaughtPPO

    def __init__(
        self, config: FinetuneRun, progress: Progress, hooks: Hook, check: Callable[[], None],
        labels: Labels | None = None, reference: Reference | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._c, self._progress, self._hooks = config.finetune, progress, hooks
        self._check, self._labels, self._reference = check, labels, reference
        self._clock = time.perf_counter() - progress.seconds
        self._now = self._status()
        self._sees: UInt8 | None = None
        self._whole = False
        """A rollout ended, and what follows it has not been taken into account yet."""
        self._begin()

    def _status(self) -> Status:
        p = self._progress
        return Status(p.step, None, p.states, p.seconds)

    def _begin(self) -> None:
        """A new point."""
        self._since, self._figures = self._now, dict[str, list[float]]()

    def _on_training_start(self) -> None:
        self._progress.begun += self.training_env.num_envs
        self._first = self._progress.step
        self._hooks.started(self._now)

    def _on_rollout_start(self) -> None:
        self._after_update()
        self._sees = self._second_obs()

    def _on_step(self) -> bool:
        self._check()
        buffer = self.model.rollout_buffer
        if self._sees is not None:
            if buffer.seen is None:
                buffer.seen = np.empty((buffer.buffer_size, *self._sees.shape), np.uint8)
            buffer.seen[buffer.pos] = self._sees
            self._sees = self._second_obs()
        ended = [float(info["episode"]["r"]) for info in self.locals["infos"] if "episode" in info]
        p = self._progress
        p.games, p.begun = p.games + len(ended), p.begun + len(ended)
        p.scores = [*p.scores, *ended][-self._c.score_games :]
        return True

    def _on_rollout_end(self) -> None:
        """An update follows for certain: say how much the teacher counts in it, and what it says."""
        model, c, buffer = self.model, self._c, self.model.rollout_buffer
        self._whole = True
        self._add("train/explained_variance", float(explained_variance(buffer.values.ravel(), buffer.returns.ravel())))
        if self._labels is None:
            return
        score, share = self._progress.score, None
        if self._reference is not None and score is not None:
            share = self._reference.share(score)
        model.teacher_weight = teacher_weight(c, model.num_timesteps / c.states, share)
        needed = model.teacher_weight > 0 and self._progress.warmed
        obs = buffer.taught_obs()
        some = np.linspace(0, len(obs) - 1, min(PIECE, len(obs))).astype(int)
        buffer.labels = self._labels(obs) if needed else None
        self._compare(buffer.swap_and_flatten(buffer.observations)[some],
                      self._labels(obs[some]) if buffer.labels is None else buffer.labels[some])  # fmt: skip

    def _compare(self, obs: UInt8, labels: Float32) -> None:
        with torch.no_grad():
            student = self.model.policy.outputs(torch.from_numpy(obs).to(self.model.device))[0].cpu()
        teacher = torch.from_numpy(labels)
        compared = {"kl": kl(student, teacher), "action_error": action_error(student, teacher)}
        self._progress.compared = {name: float(found.mean()) for name, found in compared.items()}
        for name, figure in self._progress.compared.items():
            self._add(f"play/{name}", figure)

    def _on_training_end(self) -> None:
        self._after_update()
        self._point()
        self._hooks.ended(self._now)

    def _after_update(self) -> None:
        if not self._whole:
            return
        self._whole, model, p = False, self.model, self._progress
        p.states, p.step = model.num_timesteps, self._first + model.steps
        p.seconds = time.perf_counter() - self._clock
        self._now = self._status()
        for name, value in model.told.items():
            self._add(f"train/{name if name == 'grad_norm' else f'{name}_loss'}", value)
        if p.states - self._since.states >= self._c.log_every:
            self._point()
        self._hooks.stepped(self._now)

    def _point(self) -> None:
        """Means since the point before; nothing where nothing was added."""
        now, before = self._now, self._since
        if now.states == before.states:
            return
        figures = {tag: float(np.mean(values)) for tag, values in self._figures.items()}
        figures["play/fps"] = (now.states - before.states) / max(now.seconds - before.seconds, 1e-9)
        if self._progress.score is not None:
            figures["play/score"] = self._progress.score
        if self._labels is not None:
            figures["train/teacher_weight"] = self.model.teacher_weight
        figures["train/learning_rate"] = self.model.policy.optimizer.param_groups[0]["lr"]
        self._hooks.measured(now, figures)
        self._begin()

    def _add(self, tag: str, value: float) -> None:
        self._figures.setdefault(tag, []).append(value)

    def _second_obs(self) -> UInt8 | None:
        env = self.training_env
        assert isinstance(env, AtariVecSB3)
        return env.second_obs
