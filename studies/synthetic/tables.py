"""Rows to tables, and one picture: what each method reaches, how, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from distill.sweep.grid import Row
from distill.system.files import replacing
from studies.common import markdown, mean_interval
from studies.synthetic.training import METHODS, Ranked

Protocols = Mapping[str, Mapping[str, Sequence[Row]]]
"""Rows, one a seed, by protocol and method."""

COLOURS = dict(zip(METHODS, ("#222222", "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#999999"), strict=True))


def results(rows: Protocols, steps: int) -> list[str]:
    """For each protocol, test accuracy and its difference to Sobolev's, with the cosine of the guess."""
    sections = [
        f"Test accuracy in % after {steps} steps, with 95 % intervals over seeds. Sobolev's lead, in points, "
        "is paired by seed. Cosine: of guessed and true gradient at the cut, of a training batch, mean over training. "
        "Training loss: over the last twentieth of it."
    ]
    header = [
        "lower part's gradient",
        "lr",
        "module's lr",
        "λ",
        "test accuracy, %",
        "Sobolev's lead",
        "cosine",
        "loss, nats",
    ]
    for protocol, methods in rows.items():
        lines = [_line(found, _percent(methods["sobolev"]), steps) for found in methods.values()]
        sections += [
            f"## {protocol[0].upper()}{protocol[1:]}, {len(methods['sobolev'])} seeds",
            markdown(header, lines),
        ]
    return sections


def _line(rows: Sequence[Row], sobolev: Sequence[float], steps: int) -> list[str]:
    method, test = rows[0]["method"], _percent(rows)
    lead = mean_interval([ours - theirs for ours, theirs in zip(sobolev, test, strict=True)])
    cosines = [mean for row in rows if (mean := _mean(row, "cosine@")) is not None]
    return [
        METHODS[method],
        *(rows[0][name] for name in ("lr", "module_lr", "weight")),
        mean_interval(test).text(),
        "" if method == "sobolev" else f"{lead.mean:+.1f} ({lead.low:+.1f} .. {lead.high:+.1f})",
        mean_interval(cosines).text(2) if cosines else "",
        f"{mean_interval([float(row[f'loss@{steps}']) for row in rows]).mean:.3f}",
    ]


def rates(ranked: Ranked) -> list[str]:
    """How much the learning rate matters to each, and how good it is at settings that were not chosen for it."""
    tried = {method: {recipe.lr for recipe, _ in found} for method, found in ranked.items()}
    common = set.intersection(*tried.values())
    columns = sorted(set.union(*tried.values()))
    lines = []
    for method, found in ranked.items():
        best = {recipe.lr: score for recipe, score in reversed(found)}
        shared = [score for recipe, score in found if recipe.lr in common and recipe.weight in (None, 1)]
        numbers = [f"{100 * best[lr]:.1f}" if lr in best else "" for lr in columns]
        lines.append([METHODS[method], *numbers, f"{100 * sum(shared) / len(shared):.1f}", str(len(found))])
    about = (
        "Mean validation accuracy (%) of the tuning seeds by learning rate, at the best of a method's other settings; "
        f"and the mean of all settings at the rates that all were tried at ({_listed(common)}), with λ = 1."
    )
    header = ["lower part's gradient", *(f"{lr:g}" for lr in columns), "mean", "tried"]
    return ["## The search", about, markdown(header, lines)]


def draw(path: Path, rows: Protocols) -> None:
    """Write the figure, one line a protocol: test accuracy, and over training validation accuracy and cosine."""
    figure, grid = pyplot.subplots(
        len(rows),
        3,
        figsize=(14, 4 * len(rows)),
        layout="constrained",
        width_ratios=[1.25, 1, 1],
        sharex="col",
        squeeze=False,
    )
    for (protocol, methods), (tests, learning, cosine) in zip(rows.items(), grid, strict=True):
        for place, (method, found) in enumerate(methods.items()):
            _interval(tests, place, _percent(found), COLOURS[method])
            _curve(learning, found, "validation@", COLOURS[method], unit=100)
            _curve(cosine, found, "cosine@", COLOURS[method])
        tests.set_yticks(range(len(methods)), [METHODS[method].replace(" (", "\n(") for method in methods])
        tests.invert_yaxis()
        tests.set_title(protocol, fontsize=10)
        learning.set(ylabel="validation accuracy, %", ylim=(0, 100))
        learning.set_title("learning (colours as on the left)", fontsize=10)
        cosine.set(ylabel="cosine, of a batch", ylim=(-0.05, 1.02))
        cosine.set_title("guessed and true gradient at the cut", fontsize=10)
        for axes in (tests, learning, cosine):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, label in zip(
        grid[-1], ("test accuracy, %: mean, 95 % interval, every seed", *2 * ["training step"]), strict=True
    ):
        axes.set_xlabel(label)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)


def _interval(axes: Axes, place: int, values: Sequence[float], colour: str) -> None:
    found = mean_interval(values)
    axes.scatter(values, np.full(len(values), place + 0.2), s=9, color=colour, alpha=0.5, linewidths=0)
    error = [[found.mean - found.low], [found.high - found.mean]]
    axes.errorbar(found.mean, place, xerr=error, fmt="o", color=colour, capsize=3)


def _curve(axes: Axes, rows: Sequence[Row], prefix: str, colour: str, unit: float = 1) -> None:
    """Mean over seeds with its interval as a band; nothing for a method without such a curve."""
    names = [name for name, text in rows[0].items() if name.startswith(prefix) and text]
    found = [mean_interval([unit * float(row[name]) for row in rows]) for name in names]
    steps = [int(name.removeprefix(prefix)) for name in names]
    axes.plot(steps, [point.mean for point in found], color=colour)
    axes.fill_between(steps, [p.low for p in found], [p.high for p in found], color=colour, alpha=0.2, linewidth=0)


def _percent(rows: Sequence[Row]) -> list[float]:
    return [100 * float(row["test"]) for row in rows]


def _mean(row: Row, prefix: str) -> float | None:
    """Mean of a curve; None where the method has none."""
    values = [float(text) for name, text in row.items() if name.startswith(prefix) and text]
    return sum(values) / len(values) if values else None


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in sorted(numbers))
