"""What watches a training: a hook is told when it begins, of every step, of all that is measured, and when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from distill.losses.sobolev import Losses


@dataclass(frozen=True)
class Status:
    """Where a training stands. To be read; what hooks do with it changes nothing."""

    step: int
    """Optimizer steps done, those of earlier processes included."""
    total: int | None
    """Optimizer steps in all; None where a budget of states or minutes ends it (``distill imitate``, ``finetune``)."""
    states: int
    """States trained on so far, or played: ``distill imitate``, ``finetune``."""
    seconds: float
    """Time so far, validation and saving included, earlier processes too."""
    losses: Losses | None = None
    """Of the last batch, on the training device; None before the first."""
    grad_norm: Tensor | None = None
    """Global gradient norm of that batch before clipping."""
    learning_rate: float = 0.0
    """At the last step."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the objective's terms at the last step, by name; those at fixed 1 and those left out are not there."""


class Hook:
    """Override what you want to be told; an exception ends the training.

    Of several processes that train one student, the main one has hooks of users.
    """

    def started(self, now: Status) -> None:
        """Before the first step of this process."""

    def stepped(self, now: Status) -> None:
        """After every optimizer step; after every turn of ``distill imitate``, every update of ``distill finetune``."""

    def measured(self, now: Status, figures: Mapping[str, float]) -> None:
        """Figures by TensorBoard tag (docs/metrics.md): of training, at validations, points of imitation's curve."""

    def ended(self, now: Status) -> None:
        """After the last step; not after an error or an interrupt."""


class Hooks(Hook):
    """Several hooks as one, called in their order."""

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = list(hooks)

    def add(self, *hooks: Hook) -> None:
        """Add hooks behind those that are there."""
        self._hooks += hooks

    def started(self, now: Status) -> None:
        """See ``Hook``."""
        for hook in self._hooks:
            hook.started(now)

    def stepped(self, now: Status) -> None:
        """See ``Hook``."""
        for hook in self._hooks:
            hook.stepped(now)

    def measured(self, now: Status, figures: Mapping[str, float]) -> None:
        """See ``Hook``."""
        for hook in self._hooks:
            hook.measured(now, figures)

    def ended(self, now: Status) -> None:
        """See ``Hook``."""
        for hook in self._hooks:
            hook.ended(now)
