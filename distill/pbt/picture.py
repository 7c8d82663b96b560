"""A population over its steps: how good its members were, who stems from whom, and how their settings changed."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import ticker
from matplotlib.axes import Axes

from distill.pbt.rounds import Round
from distill.report.plots import LIGHT, PALETTE, drawing

THEME = LIGHT
PLAIN, BEST = THEME.faint, PALETTE[1]


def picture(rounds: Sequence[Round], chain: Sequence[Round], what: str) -> bytes:
    """A panel of scores and one for every setting, as PNG; the best student's line is drawn on top.

    Args:
        rounds: all.
        chain: the best one's, the first first.
        what: the title.
    """
    names = sorted({name for one in rounds for name in one.settings})
    with drawing(THEME, 7.2, 2.0 + 1.25 * len(names)) as (figure, png):
        ratios = [1.8, *(1 for _ in names)]
        panels = figure.subplots(1 + len(names), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        _scores(panels[0], rounds, chain)
        for axes, name in zip(panels[1:], names, strict=True):
            _setting(axes, name, rounds, chain)
        panels[-1].set_xlabel("steps")
        figure.suptitle(what, x=0.01, ha="left", fontsize=10)
    return png()


def _scores(axes: Axes, rounds: Sequence[Round], chain: Sequence[Round]) -> None:
    """A point for every round, and a line from its parent."""
    by_name = {one.run: one for one in rounds}
    for one in rounds:
        if before := by_name.get(one.parent):
            axes.plot([before.step, one.step], [before.val_kl, one.val_kl], color=PLAIN, lw=0.9, alpha=0.7)
    axes.plot([one.step for one in rounds], [one.val_kl for one in rounds], "o", color=PLAIN, ms=3)
    axes.plot([one.step for one in chain], [one.val_kl for one in chain], "o-", color=BEST, ms=4, lw=1.6)
    axes.set_ylabel("val KL, nats")
    _look(axes)


def _setting(axes: Axes, name: str, rounds: Sequence[Round], chain: Sequence[Round]) -> None:
    """A line for every round, as long as it lasted."""
    begin = {one.run: one.step for one in rounds}
    for one in rounds:
        if name in one.settings:
            axes.plot([begin.get(one.parent, 0), one.step], [one.settings[name]] * 2, color=PLAIN, lw=1, alpha=0.7)
    steps = [begin.get(one.parent, 0) for one in chain] + [chain[-1].step]
    values = [one.settings[name] for one in chain if name in one.settings]
    if len(values) == len(chain):
        axes.step(steps, [*values, values[-1]], where="post", color=BEST, lw=1.8)
    axes.set_ylabel(name.rpartition(".")[2].replace("_", "\n"), fontsize=8)
    _look(axes)


def _look(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1,) if high > 300 * low else (1, 2, 5) if high > 3 * low else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(labelsize=8)
    axes.grid(color=THEME.faint, alpha=0.25, lw=0.6)
