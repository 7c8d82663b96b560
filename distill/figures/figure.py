"""What is measured of a student on states that it was not trained on: each figure is an entry of one table."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.losses.divergence import action_error, kl, merged_action_error, total_variation
from distill.losses.matching import TINY
from distill.networks.nets import to_unit
from distill.system.registry import Registry
from distill.system.trouble import blaming

ROWS = "jacobian_rows"
"""How many derivatives were compared: what sums over derivatives are divided by."""


@dataclass(frozen=True)
class Outputs:
    """What student and teacher say in a batch of states."""

    student: Tensor
    """Logits, float (B, A)."""
    teacher: Tensor
    """Logits after temperature, float (B, A)."""
    pixels: Tensor
    """What both look at, uint8 (B, 4, 84, 84)."""
    same: Sequence[Sequence[int]]
    """Groups of actions that have one effect in this game."""
    net: nn.Module | None = None
    """The student, for figures that ask it for more; None where only its logits are at hand."""
    known: dict[str, Tensor] = field(default_factory=dict)
    """What several figures need and one has computed, by a name of their own."""

    @functools.cached_property
    def obs(self) -> Tensor:
        """The pixels as float in [0, 1]."""
        return to_unit(self.pixels)


@dataclass(frozen=True)
class Derivatives:
    """One J^T v of each state of a batch, float (B, pixels)."""

    student: Tensor
    teacher: Tensor
    """After temperature."""


Sums = Mapping[str, float]
Compute = Callable[..., Tensor | tuple[Tensor, ...]]


def mean(sums: Sequence[float], count: int) -> float:
    """Of the only sum."""
    return sums[0] / count


@dataclass(frozen=True)
class Figure:
    """One figure of fidelity.

    Tables, scores.json, TensorBoard and docs/metrics.md have it by ``name``; where it is on the held-out games of a
    training it is ``val_<name>``, on those of a sweep ``test_<name>``.
    """

    name: str
    """Letters, digits and _."""
    title: str
    """Head of a table's column, short."""
    meaning: str
    """In a line."""
    compute: Compute
    """Of ``Outputs``, or of ``Derivatives`` where it needs these: a number for each state, float (B,), or several."""
    unit: str = ""
    form: str = ".4f"
    """As Python formats it: ``.4f``, ``.1%``."""
    better: Literal["lower", "higher"] = "lower"
    needs: Literal["outputs", "derivatives"] = "outputs"
    sums: tuple[str, ...] = ()
    """Names of what ``compute`` gives, added up over states; by default the figure's own."""
    combine: Callable[[Sequence[float], int], float] = mean
    """The figure of these sums and of the number of states, or of derivatives."""
    quantile: float | None = None
    """The figure is this quantile over states in place of what ``combine`` gives; a sweep, which adds up games, cannot
    measure it."""
    in_tables: bool = True
    """It has a column in the tables of terminal and report, which are full; scores.json has it anyway."""
    axis: str = ""
    """Label of its curve in the report, ``log scale`` and all; without one it has none."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UserError(f"a figure's name has letters, digits and _ only, got {self.name!r}")
        try:
            format(0.5, self.form)
        except (ValueError, TypeError) as error:
            raise UserError(f"figure {self.name!r} cannot be written as {self.form!r}; use '.4f' or '.1%'") from error
        if not self.sums:
            object.__setattr__(self, "sums", (self.name,))

    def described(self) -> dict[str, str]:
        """What one needs to show it."""
        return {name: str(getattr(self, name)) for name in ("title", "meaning", "unit", "form", "better")}


FIGURES: Registry[Figure] = Registry(
    "figure", "a distill.api.Figure", lambda thing: isinstance(thing, Figure), own=("distill.figures", "ENTRIES")
)
"""All figures by name; those of ``OWN`` are measured wherever fidelity is."""


def register_figure(figure: Figure) -> Figure:
    """Let ``evaluate.figures`` name it.

    Raises:
        UserError: its name is taken.
    """
    return FIGURES.register(figure.name, figure)


def _cosine(of: Derivatives) -> Tensor:
    norms = of.student.norm(dim=1) * of.teacher.norm(dim=1)
    cosine: Tensor = (of.student * of.teacher).sum(1) / norms.clamp_min(TINY)
    return cosine


def _squares(of: Derivatives) -> tuple[Tensor, Tensor]:
    return (of.student - of.teacher).square().sum(1), of.teacher.square().sum(1)


OWN: tuple[Figure, ...] = (
    Figure(
        "kl",
        "val KL",
        "KL(teacher ‖ student) on held-out games, teacher at the objective's temperature",
        lambda of: kl(of.student, of.teacher),
        unit="nats",
        axis="KL, nats (log scale)",
    ),
    Figure(
        "action_error",
        "action error",
        "share of held-out states whose most likely actions differ",
        lambda of: action_error(of.student, of.teacher),
        form=".1%",
        axis="action error, % of states",
    ),
    Figure(
        "jacobian_cosine",
        "Jacobian cosine",
        "mean cosine of student's and teacher's Jᵀv",
        _cosine,
        unit="−1 .. 1",
        form=".3f",
        better="higher",
        needs="derivatives",
        axis="cosine of the two Jᵀv",
    ),
    Figure(
        "jacobian_relative_error",
        "Jacobian error",
        "‖J_Sᵀv − J_Tᵀv‖ / ‖J_Tᵀv‖, root of the ratio of mean squares",
        _squares,
        unit="1 = as bad as no derivative",
        form=".3f",
        needs="derivatives",
        sums=("jacobian_difference", "jacobian_square"),
        combine=lambda sums, count: math.sqrt(sums[0] / max(sums[1], TINY)),
    ),
    Figure(
        "total_variation",
        "total variation",
        "mean of ½ Σ|π_T − π_S| on held-out states, teacher at the objective's temperature",
        lambda of: total_variation(of.student, of.teacher),
        unit="0 .. 1",
    ),
    Figure(
        "merged_action_error",
        "merged error",
        "share of held-out states whose most likely *effects* differ (below), teacher at the objective's temperature",
        lambda of: merged_action_error(of.student, of.teacher, of.same),
        form=".1%",
    ),
)
ENTRIES = OWN


def for_tables(figures: Iterable[Figure]) -> list[Figure]:
    """Those with a column, in the order of columns: distances, then shares, then those on derivatives."""
    shown = [figure for figure in figures if figure.in_tables]
    return sorted(shown, key=lambda figure: (figure.needs == "derivatives", figure.form.endswith("%")))


def chosen(names: Sequence[str]) -> tuple[Figure, ...]:
    """The toolkit's figures and those that are named besides.

    Args:
        names: registered names, or dotted paths.

    Raises:
        UserError: there is no such figure, or its name is taken.
    """
    found = list(OWN)
    for name in names:
        figure = FIGURES.find(name)
        taken = {part for one in found for part in (one.name, *one.sums)} | {ROWS, "states", "games", "data", "repeats"}
        if taken & {figure.name, *figure.sums}:
            raise UserError(f"figure {name!r} is called {figure.name!r}, or adds up what is; give it another name")
        found.append(figure)
    return tuple(found)


def without_quantiles(figures: Sequence[Figure], where: str) -> Sequence[Figure]:
    """The same figures, if all of them add up.

    Raises:
        UserError: one is a quantile.
    """
    for figure in figures:
        if figure.quantile is not None:
            raise UserError(
                f"figure {figure.name!r} is a quantile over states, which {where} cannot add up game by game; "
                "measure it with `distill evaluate`"
            )
    return figures


def sums_of(figures: Sequence[Figure]) -> tuple[str, ...]:
    """What is added up over states: of the outputs, then how many derivatives there are, then of these."""
    by_need = [[name for f in figures if f.needs == need for name in f.sums] for need in ("outputs", "derivatives")]
    return (*by_need[0], ROWS, *by_need[1])


def from_sums(sums: Sums, states: int, figures: Sequence[Figure]) -> dict[str, float | None]:
    """Figures of what was added up over so many states; None for those on derivatives where there are none."""
    counts = {"outputs": states, "derivatives": int(sums[ROWS])}
    found: dict[str, float | None] = {}
    for figure in figures:
        count = counts[figure.needs]
        with _naming(figure):
            found[figure.name] = figure.combine([sums[name] for name in figure.sums], count) if count else None
    return found


def per_state(figures: Sequence[Figure], of: Outputs | Derivatives) -> Tensor:
    """What ``figures`` add up, for each state, double (sums, B).

    Raises:
        UserError: a figure of somebody's fails, or gives something else.
    """
    rows: list[Tensor] = []
    for figure in figures:
        with _naming(figure):
            given = figure.compute(of)
        parts = given if isinstance(given, tuple) else (given,)
        told = [str(tuple(part.shape)) if isinstance(part, Tensor) else f"a {type(part).__name__}" for part in parts]
        if told != [str(tuple(of.student.shape[:1]))] * len(figure.sums):
            shapes = ", ".join(told)
            raise UserError(
                f"figure {figure.name!r} must compute {len(figure.sums)} tensor of shape ({len(of.student)},), one "
                f"number for each state, got {shapes}"
            )
        rows += [part.double() for part in parts]
    return torch.stack(rows) if rows else torch.empty(0, len(of.student), dtype=torch.float64)


def _naming(figure: Figure) -> contextlib.AbstractContextManager[None]:
    """An error of somebody's function is one sentence that says whose figure it is; one of ours is a bug."""
    if figure in OWN:
        return contextlib.nullcontext()
    return blaming(f"figure {figure.name!r} fails", "mend its function")
