"""What auto stands for, and that a number stays what it is."""

from __future__ import annotations

from typing import Any

import pytest

from distill.api import Config, ObjectiveConfig, TrainConfig, UserError, validated
from distill.train.auto import FEW_PASSES, Plan, make_plan

AUTO: dict[str, Any] = {"jacobian_share": "auto", "jacobian_until": "auto"}
SOBOLEV, PLAIN = ObjectiveConfig(**AUTO), ObjectiveConfig(jacobian_weight=0.0, **AUTO)
STATES = 1000
MANY = TrainConfig(steps=int(FEW_PASSES) * 100, batch_size=10, learning_rate="auto")
FEW = TrainConfig(epochs=FEW_PASSES - 0.1, learning_rate="auto")


@pytest.mark.parametrize(
    ("objective", "train", "plan"),
    [
        (SOBOLEV, MANY, Plan(0.25, 0.5, 3e-3, 1e-3)),
        (SOBOLEV, FEW, Plan(0.25, 0.3, 3e-3, 1e-3)),
        (PLAIN, MANY, Plan(0.25, 0.5, 3e-3, 1e-3)),
        (PLAIN, FEW, Plan(0.25, 0.3, 3e-3, 1e-3)),
        (ObjectiveConfig(jacobian_share=1.0, jacobian_until="auto"), MANY, Plan(1.0, 0.5, 3e-3, 1e-3)),
        (ObjectiveConfig(terms={"tests.losses.test_terms:Everything": 1.0}, **AUTO), MANY, Plan(1.0, 1.0, 3e-3, 1e-3)),
        (ObjectiveConfig(jacobian_share="auto", jacobian_until=0.1), MANY, Plan(0.25, 0.1, 3e-3, 1e-3)),
    ],
)
def test_auto_is_decided_by_the_passes(objective: ObjectiveConfig, train: TrainConfig, plan: Plan) -> None:
    assert make_plan(Config(objective=objective, train=train), STATES) == plan


def test_a_batch_is_never_larger_than_the_data() -> None:
    large = TrainConfig(steps=int(FEW_PASSES) - 1, batch_size=2 * STATES, learning_rate="auto")
    assert make_plan(Config(objective=SOBOLEV, train=large), STATES) == Plan(0.25, 0.3, 3e-3, 1e-3)


def test_auto_asks_for_no_more_derivatives_than_are_stored() -> None:
    assert make_plan(Config(objective=SOBOLEV), STATES, 0.1).jacobian_share == 0.1
    online = ObjectiveConfig(jacobian_targets="online", **AUTO)
    assert make_plan(Config(objective=online), STATES, 0.1).jacobian_share == 0.25


@pytest.mark.parametrize("objective", [SOBOLEV, PLAIN])
def test_a_learning_rate_that_is_given_holds_throughout(objective: ObjectiveConfig) -> None:
    plan = make_plan(Config(objective=objective, train=TrainConfig(learning_rate=0.01)), STATES)
    assert (plan.early_learning_rate, plan.learning_rate) == (0.01, 0.01)
    both = TrainConfig(learning_rate=0.01, early_learning_rate=0.02)
    plan = make_plan(Config(objective=objective, train=both), STATES)
    assert (plan.early_learning_rate, plan.learning_rate) == (0.02, 0.01)


def test_a_plan_in_words() -> None:
    assert Plan(0.25, 0.3, 3e-3, 1e-3).text(SOBOLEV) == (
        "learning rate 0.001, then 0.003; derivatives on 0.25 of each batch until 30% of the steps"
    )
    assert Plan(1.0, 1.0, 1e-3, 1e-3).text(SOBOLEV) == "learning rate 0.001; derivatives on 1 of each batch"
    assert Plan(0.25, 0.3, 1e-3, 1e-3).text(PLAIN) == "learning rate 0.001"
    never_falls = ObjectiveConfig(jacobian_weight=0.0, jacobian_schedule="constant")
    assert Plan(0.25, 0.3, 3e-3, 1e-3).text(never_falls) == "learning rate 0.001, then 0.003"
    assert Plan(0.25, 1.0, 3e-3, 1e-3).text(never_falls) == "learning rate 0.001"


def test_other_words_are_refused() -> None:
    with pytest.raises(UserError, match=r"--objective\.jacobian_share must be float or one of \['auto'\], got always"):
        validated(Config(objective=ObjectiveConfig(jacobian_share="always")))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"--objective\.jacobian_share must be above 0, and at most 1, got 2"):
        validated(Config(objective=ObjectiveConfig(jacobian_share=2)))
