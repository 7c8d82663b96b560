"""Checks of a whole configuration, once and up front, before anything slow or lasting happens."""

from __future__ import annotations

import dataclasses
import math
import random
import re

from distill.config import Config
from distill.envs.ale_vec import MAX_LANES
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.progress import console
from distill.students.nets import net_spec
from distill.which_game import which_game


def validated(config: Config, stage: str | None = None) -> Config:
    """Return ``config`` with canonical game and drawn seed, or say what is wrong.

    Args:
        config: settings.
        stage: the stage that is about to run (``collect``, ...); it says first which game it is about.

    Raises:
        UserError: the first setting that cannot work, by its name on the command line.
    """
    drawn = config.seed == -1
    seed = random.SystemRandom().randrange(2**30) if drawn else config.seed
    _require(0 <= seed < 2**30, "--seed", seed, "between 0 and 2^30 - 1, or -1")
    _require(config.tau > 0, "--tau", config.tau, "positive")
    if config.preset is not None:
        get_preset(config.preset)
    _student(config)
    _collect(config)
    _train(config)
    _evaluate(config)
    _sweep(config)
    game, why = which_game(config, stage)
    if stage is not None:
        console.print(f"game: {game} ({why})")
    if drawn:
        console.print(f"seed: {seed} (drawn)")
    return dataclasses.replace(config, env=game, seed=seed, teacher=config.teacher or game)


def _require(holds: bool, flag: str, value: object, want: str) -> None:
    if not holds:
        raise UserError(f"{flag} must be {want}, got {value}")


def _student(config: Config) -> None:
    s = config.student
    net_spec(s.name)
    _require(all(width > 0 for width in s.hidden or ()), "--student.hidden", s.hidden, "positive widths")
    _require(
        all(number > 0 for conv in s.convs or () for number in conv), "--student.convs", s.convs, "positive numbers"
    )


def _collect(config: Config) -> None:
    c = config.collect
    _require(c.states > 0, "--collect.states", c.states, "positive")
    _require(1 <= c.num_envs <= MAX_LANES, "--collect.num_envs", c.num_envs, f"between 1 and {MAX_LANES}")
    _require(1 <= c.k <= 64, "--collect.k", c.k, "between 1 and 64")
    _require(0 <= c.beta <= 1, "--collect.beta", c.beta, "between 0 and 1")
    _require(0 <= c.epsilon <= 1, "--collect.epsilon", c.epsilon, "between 0 and 1")
    _require(0 <= c.sticky < 1, "--collect.sticky", c.sticky, "at least 0 and below 1")
    if c.writer is not None:
        _require(
            re.fullmatch(r"\w[\w.-]*", c.writer) is not None,
            "--collect.writer", repr(c.writer), "letters, digits, dots and dashes",
        )  # fmt: skip
    _require(c.shard_states >= c.num_envs, "--collect.shard_states", c.shard_states, "at least collect.num_envs")


def _train(config: Config) -> None:
    t, o = config.train, config.objective
    _require(t.steps > 0, "--train.steps", t.steps, "positive")
    _require(t.epochs is None or t.epochs > 0, "--train.epochs", t.epochs, "positive")
    _require(t.batch_size > 0, "--train.batch_size", t.batch_size, "positive")
    _require(t.learning_rate > 0, "--train.learning_rate", t.learning_rate, "positive")
    _require(t.warmup >= 0, "--train.warmup", t.warmup, "zero or more")
    _require(t.max_grad_norm >= 0, "--train.max_grad_norm", t.max_grad_norm, "zero or more")
    _require(t.weight_decay >= 0, "--train.weight_decay", t.weight_decay, "zero or more")
    _require(t.patience >= 0, "--train.patience", t.patience, "zero or more")
    _require(t.states is None or t.states > 0, "--train.states", t.states, "positive")
    _require(0 < t.val_fraction < 1, "--train.val_fraction", t.val_fraction, "between 0 and 1")
    for name in ("val_states", "val_every", "checkpoint_every", "log_every"):
        _require(getattr(t, name) > 0, f"--train.{name}", getattr(t, name), "positive")
    _require(o.temperature > 0, "--objective.temperature", o.temperature, "positive")
    _require(o.jacobian_weight >= 0, "--objective.jacobian_weight", o.jacobian_weight, "zero or more")
    _require(o.jacobian_blur >= 0, "--objective.jacobian_blur", o.jacobian_blur, "zero or more")
    _require(o.k is None or 1 <= o.k <= 64, "--objective.k", o.k, "between 1 and 64")
    _require(0 <= o.input_noise < math.inf, "--objective.input_noise", o.input_noise, "zero or more, and finite")
    if o.input_noise > 0 and o.jacobian_weight > 0 and o.jacobian_targets == "stored":
        raise UserError(
            f"--objective.input_noise={o.input_noise} moves the pixels away from where derivatives were stored; "
            "use --objective.jacobian_targets=online or --objective.jacobian_weight=0"
        )


def _evaluate(config: Config) -> None:
    e = config.evaluate
    _require(e.games > 0, "--evaluate.games", e.games, "positive")
    _require(1 <= e.num_envs <= MAX_LANES, "--evaluate.num_envs", e.num_envs, f"between 1 and {MAX_LANES}")
    _require(e.games % min(e.num_envs, e.games) == 0, "--evaluate.games", e.games, "a multiple of evaluate.num_envs")
    _require(len(e.agents) > 0, "--evaluate.agents", e.agents, "at least one agent")


def _sweep(config: Config) -> None:
    s, lanes = config.sweep, config.evaluate.num_envs
    _require(s.test_states > 0, "--sweep.test_states", s.test_states, "positive")
    _require(s.games >= 0, "--sweep.games", s.games, "zero or more")
    fits = s.games == 0 or s.games % min(lanes, s.games) == 0
    _require(fits, "--sweep.games", s.games, "a multiple of evaluate.num_envs")
