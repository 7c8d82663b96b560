"""Checks of a whole configuration, once and up front, before anything slow or lasting happens."""

from __future__ import annotations

import dataclasses
import random
import re

from distill.config.config import Config
from distill.config.which_game import which_game
from distill.envs.ale_vec import MAX_LANES
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.nets import net_spec
from distill.system.progress import console
from distill.system.ranges import POSITIVE, SHARE, ZERO_OR_MORE, Range, check_ranges, check_types

LANES, ROWS = Range(f"between 1 and {MAX_LANES}", 1, MAX_LANES), Range("between 1 and 64", 1, 64)
RANGES = {
    "tau": POSITIVE,
    "collect.states": POSITIVE,
    "collect.num_envs": LANES,
    "collect.k": ROWS,
    "collect.beta": SHARE,
    "collect.epsilon": SHARE,
    "collect.sticky": Range("at least 0 and below 1", 0, 1, without=(1,)),
    "collect.shard_states": POSITIVE,
    "train.steps": POSITIVE,
    "train.epochs": POSITIVE,
    "train.batch_size": POSITIVE,
    "train.learning_rate": POSITIVE,
    "train.warmup": ZERO_OR_MORE,
    "train.max_grad_norm": ZERO_OR_MORE,
    "train.weight_decay": ZERO_OR_MORE,
    "train.patience": ZERO_OR_MORE,
    "train.states": POSITIVE,
    "train.val_fraction": Range("between 0 and 1", 0, 1, without=(0, 1)),
    "train.val_states": POSITIVE,
    "train.val_every": POSITIVE,
    "train.checkpoint_every": POSITIVE,
    "train.log_every": POSITIVE,
    **dict.fromkeys(
        (
            f"imitate.{name}"
            for name in (
                "states",
                "minutes",
                "steps_per_turn",
                "updates_per_turn",
                "batch_size",
                "ring",
                "learning_starts",
                "learning_rate",
                "log_every",
                "checkpoint_every",
            )
        ),
        POSITIVE,
    ),
    "imitate.num_envs": LANES,
    "imitate.teacher_share": SHARE,
    "imitate.teacher_share_until": SHARE,
    "imitate.final_learning_rate": ZERO_OR_MORE,
    "imitate.max_grad_norm": ZERO_OR_MORE,
    "objective.temperature": POSITIVE,
    "objective.jacobian_weight": ZERO_OR_MORE,
    "objective.jacobian_blur": ZERO_OR_MORE,
    "objective.k": ROWS,
    "objective.input_noise": Range("zero or more, and finite", 0),
    "evaluate.games": POSITIVE,
    "evaluate.num_envs": LANES,
    "sweep.test_states": POSITIVE,
    "sweep.games": ZERO_OR_MORE,
}
"""Every number but the seed."""
PLACES = (
    "collect.out", "collect.actor", "student.init", "train.data", "train.out", "evaluate.data", "evaluate.out",
    "sweep.data", "sweep.out", "report.scores", "report.out", "imitate.out", "imitate.init", "imitate.teacher_zip",
)  # fmt: skip
"""Settings that name a file or folder."""


def validated(config: Config, stage: str | None = None) -> Config:
    """Return ``config`` with canonical game and drawn seed, or say what is wrong.

    Args:
        config: settings.
        stage: the stage that is about to run (``collect``, ...); it says first which game it is about.

    Raises:
        UserError: the first setting that cannot work, by its name on the command line.
    """
    check_types(config)
    drawn = config.seed == -1
    seed = random.SystemRandom().randrange(2**30) if drawn else config.seed
    _require(0 <= seed < 2**30, "--seed", seed, "between 0 and 2^30 - 1, or -1")
    check_ranges(config, RANGES)
    for preset in (config.preset, config.teacher_preset):
        if preset is not None:
            get_preset(preset)
    _student(config)
    _collect(config)
    _train(config)
    _imitate(config)
    _evaluate(config)
    _sweep(config)
    _places(config)
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
    _require(all(width in POSITIVE for width in s.hidden or ()), "--student.hidden", s.hidden, "positive widths")
    _require(
        all(number in POSITIVE for conv in s.convs or () for number in conv),
        "--student.convs", s.convs, "positive numbers",
    )  # fmt: skip


def _collect(config: Config) -> None:
    c = config.collect
    if c.writer is not None:
        _require(
            re.fullmatch(r"\w[\w.-]*", c.writer) is not None,
            "--collect.writer", repr(c.writer), "letters, digits, dots and dashes",
        )  # fmt: skip
    _require(c.shard_states >= c.num_envs, "--collect.shard_states", c.shard_states, "at least collect.num_envs")


def _train(config: Config) -> None:
    o = config.objective
    if o.input_noise > 0 and o.jacobian_weight > 0 and o.jacobian_targets == "stored":
        raise UserError(
            f"--objective.input_noise={o.input_noise} moves the pixels away from where derivatives were stored; "
            "use --objective.jacobian_targets=online or --objective.jacobian_weight=0"
        )


def _imitate(config: Config) -> None:
    i = config.imitate
    _require(
        i.states is not None or i.minutes is not None, "--imitate.states", "null", "given where imitate.minutes is not"
    )
    _require(i.learning_starts <= i.ring, "--imitate.learning_starts", i.learning_starts, "at most imitate.ring")
    if i.value != "none" and i.teacher_zip is None:
        raise UserError(f"--imitate.value={i.value} is of the zip that --imitate.teacher_zip names; name one")


def _evaluate(config: Config) -> None:
    e = config.evaluate
    _require(e.games % min(e.num_envs, e.games) == 0, "--evaluate.games", e.games, "a multiple of evaluate.num_envs")
    _require(len(e.agents) > 0, "--evaluate.agents", e.agents, "at least one agent")


def _sweep(config: Config) -> None:
    s, lanes = config.sweep, config.evaluate.num_envs
    fits = s.games == 0 or s.games % min(lanes, s.games) == 0
    _require(fits, "--sweep.games", s.games, "a multiple of evaluate.num_envs")


def _places(config: Config) -> None:
    """Files and folders need a name; an empty one would be the working directory."""
    for name in PLACES:
        section, _, field = name.partition(".")
        value = getattr(getattr(config, section), field)
        good = value is None or (value.strip() != "" and value.isprintable())
        _require(good, f"--{name}", repr(value), "the name of a file or folder")
