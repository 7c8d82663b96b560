from __future__ import annotations

import re
from typing import Any

import pytest

from distill.config.config import Config
from distill.config.validate import validated
from distill.errors import UserError
from distill.evaluate.settings import EvaluateConfig
from distill.shrink.settings import ShrinkConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"networks": []}, "--shrink.networks must be one or more, none of them twice, got []"),
        ({"networks": ["nature", "nature"]}, "--shrink.networks must be one or more, none of them twice"),
        ({"networks": ["natur"]}, "unknown network 'natur' (did you mean 'nature'?)"),
        ({"seeds": []}, "--shrink.seeds must be one or more"),
        ({"seeds": [-1]}, "--shrink.seeds must be between 0 and 1073741823, got -1"),
        ({"precisions": ["int4"]}, "--shrink.precisions must be of ['float32', 'int8'], got ['int4']"),
        ({"games": 0}, "--shrink.games must be positive, got 0"),
        ({"calibration_states": 0}, "--shrink.calibration_states must be between 1 and 10,000, got 0"),
        ({"calibration_states": 10**12}, "--shrink.calibration_states must be between 1 and 10,000, got 1000000000000"),
        ({"by": "magic"}, "--shrink.by must be one of ['imitate', 'rounds', 'train'], got magic"),
    ],
)
def test_bad_settings_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        validated(Config(shrink=ShrinkConfig(**fields)))


def test_other_stages_may_play_in_other_numbers() -> None:
    """The default of 64 games is no multiple of ten lanes, which concerns only the ladder."""
    validated(Config(evaluate=EvaluateConfig(games=10, num_envs=10)))
