"""What ``auto`` stands for, decided from the settings and the data. How it was found: docs/decisions.md."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import UserError
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import states_of_share
from distill.train.settings import TrainRun

SHARE = 0.25
"""Of each batch."""
FEW_PASSES, UNTIL, UNTIL_FEW = 10.0, 0.5, 0.3
"""Derivatives last until this share of the training, and less long where the data is passed over less often."""
EARLY_RATE, LATE_RATE = 1e-3, 3e-3
"""Plain distillation likes a rate that rises, too; it does so as lambda would fall."""


@dataclass(frozen=True)
class Plan:
    """How a training goes; ``ObjectiveConfig`` and ``TrainConfig`` document the settings."""

    jacobian_share: float
    jacobian_until: float
    learning_rate: float
    early_learning_rate: float

    def objective(self) -> dict[str, float]:
        """Its part of the objective's settings, by name."""
        return {"jacobian_share": self.jacobian_share, "jacobian_until": self.jacobian_until}

    def rates(self, o: ObjectiveConfig) -> tuple[float, float]:
        """Peak learning rates, the early one and the one it moves to; one and the same where lambda never falls."""
        stays = o.jacobian_schedule == "constant" and self.jacobian_until == 1
        return self.early_learning_rate, self.early_learning_rate if stays else self.learning_rate

    def text(self, o: ObjectiveConfig) -> str:
        """In words, for people."""
        rate = "learning rate " + ", then ".join(f"{rate:g}" for rate in dict.fromkeys(self.rates(o)))
        if not o.derivatives:
            return rate
        until = "" if self.jacobian_until == 1 else f" until {self.jacobian_until:.0%} of the steps"
        return f"{rate}; derivatives on {self.jacobian_share:g} of each batch{until}"


def carried_share(config: TrainRun, plan: Plan) -> float | None:
    """Share of each batch that carries derivatives; None where nothing reads any."""
    return plan.jacobian_share if config.objective.derivatives else None


def until(passes: float) -> float:
    """Share of a training until which derivatives last where ``auto`` decides, by its passes over the data."""
    return UNTIL if passes >= FEW_PASSES else UNTIL_FEW


def make_plan(config: TrainRun, states: int, carried: float = 1.0) -> Plan:
    """Numbers in place of ``auto``; what is a number stays.

    Args:
        config: settings of a training; where a term of the user's own reads derivatives, all states carry them.
        states: how many it goes over.
        carried: share of the data that stores derivatives.

    Raises:
        UserError: more states of a batch are to be attacked than carry no derivatives.
    """
    o, t = config.objective, config.train
    passes = t.steps * min(t.batch_size, states) / states if t.epochs is None else t.epochs
    share, last = (1.0, 1.0) if o.own_derivatives else (SHARE, until(passes))
    share = min(share, carried if o.jacobian_targets == "stored" else 1.0)
    late: float | str = t.learning_rate
    early = t.early_learning_rate
    if late == "auto":
        late, early = LATE_RATE, EARLY_RATE if early is None else early
    plan = Plan(
        share if o.jacobian_share == "auto" else o.jacobian_share,
        last if o.jacobian_until == "auto" else o.jacobian_until,
        float(late),
        float(late) if early is None else early,
    )
    _check_adversary(config, plan)
    return plan


def _check_adversary(config: TrainRun, plan: Plan) -> None:
    share, clean, size = config.train.adversary_share, carried_share(config, plan) or 0.0, config.train.batch_size
    if config.train.adversary is None:
        return
    if clean + share > 1 + 1e-9:
        raise UserError(
            f"--train.adversary_share={share} of each batch is to be attacked, but {clean:g} of it carries derivatives "
            "of the clean pixels; lower it, or set --objective.jacobian_share"
        )
    if clean and states_of_share(clean, size) >= size:
        raise UserError(
            f"--train.batch_size={size}: all states of a batch carry derivatives of the clean pixels "
            f"({clean:g} of it, rounded), so none can be attacked; raise it, or lower --objective.jacobian_share"
        )
