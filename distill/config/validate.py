"""Checks of a whole configuration, once and up front, before anything slow or lasting happens."""

from __future__ import annotations

import dataclasses
import random

from distill.config.config import Config
from distill.config.which_game import which_game
from distill.envs.settings import LARGEST_SEED
from distill.system.progress import console
from distill.system.settings import bare, check_settings


def validated(config: Config, stage: str | None = None) -> Config:
    """Return ``config`` with canonical game and drawn seed, or say what is wrong; ``teacher`` is left as it is.

    Args:
        config: settings.
        stage: the stage that is about to run (``collect``, ...); it says first which game it is about.

    Raises:
        UserError: the first setting that cannot work, by its name on the command line.
    """
    check_settings(config)
    config = bare(config)
    drawn = config.seed == -1
    seed = random.SystemRandom().randrange(LARGEST_SEED + 1) if drawn else config.seed
    game, why = which_game(config, stage)
    if stage is not None:
        console.print(f"game: {game} ({why})")
    if drawn:
        console.print(f"seed: {seed} (drawn; --seed={seed} goes on with what it began)")
    return dataclasses.replace(config, env=game, seed=seed)
