"""What every study shares: intervals over seeds and test games, states to test on, tables and the command line."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from distill.dataset.games import whole_games
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.system.files import write_bytes
from distill.system.provenance import command_line, versions


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval, over seeds and, where ``games`` says so, over test games."""

    mean: float
    low: float
    high: float
    count: int
    """Seeds."""
    games: int = 0
    """Test games that were resampled; 0 where the interval is over seeds only."""

    def text(self, digits: int = 3) -> str:
        """``mean (low .. high)``, with significant digits of the mean; for a single seed just the mean."""
        if self.count == 1:
            return _short(self.mean, digits)
        return f"{_short(self.mean, digits)} ({_short(self.low, digits)} .. {_short(self.high, digits)})"


def mean_interval(values: npt.ArrayLike) -> Interval:
    """Mean of one number a seed, with Student's t interval; no width for a single seed.

    Raises:
        ValueError: no values.
    """
    x = np.asarray(values, np.float64)
    if x.size == 0:
        raise ValueError("no values to average")
    mean = float(x.mean())
    half = 0.0
    if len(x) > 1:
        half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, len(x))


def ratio_interval(numerators: npt.ArrayLike, denominators: npt.ArrayLike) -> Interval:
    """Geometric mean of the ratios of pairs, one pair a seed, with the t interval of their logarithms."""
    logs = np.log(np.asarray(numerators, np.float64) / np.asarray(denominators, np.float64))
    inner = mean_interval(logs)
    mean, low, high = (float(np.exp(value)) for value in (inner.mean, inner.low, inner.high))
    return Interval(mean, low, high, inner.count)


def ratio_over_games(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Geometric mean of the ratios of pairs with an interval over seeds and over test games.

    All students are tested on the same games, so a bootstrap draws games with replacement once for all of them: for
    both sides of a pair and for every seed. Seeds are too few to be resampled: of three, bootstrap percentiles
    cover 78 to 91 % (docs/decisions.md). So their part of the interval is Student's, and that of the games is Student's
    with the bootstrap's standard error; both are of the logarithm, and the squares of their widths are added.

    Args:
        numerators: sums over the states of each game, (seeds, pairs of a seed, games); of a seed's pairs the
            geometric mean is taken.
        denominators: the same of the pairs' other sides.
        resamples: of the games.
        seed: of the bootstrap.

    Returns:
        The interval; over seeds only (``games`` is 0) where there is one seed or game, or where a resample has nothing
        to divide by.
    """
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    seeds, _, games = above.shape
    over_seeds = ratio_interval(np.exp(_mean_logs(above, below, np.ones((1, games)))[:, 0]), np.ones(seeds))
    drawn = np.random.default_rng(seed).integers(games, size=(resamples, games))
    times = np.stack([np.bincount(draw, minlength=games) for draw in drawn]).astype(np.float64)
    logs = _mean_logs(above, below, times).mean(0)
    if min(seeds, games) < 2 or not np.isfinite(logs).all():
        return over_seeds
    error = float(logs.std()) * np.sqrt(games / (games - 1))
    of_games = float(stats.t.ppf(0.975, games - 1)) * error
    half = float(np.hypot(np.log(over_seeds.high / over_seeds.mean), of_games))
    mean = over_seeds.mean
    return Interval(mean, mean * float(np.exp(-half)), mean * float(np.exp(half)), seeds, games)


def _mean_logs(
    above: npt.NDArray[np.float64], below: npt.NDArray[np.float64], times: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean over a seed's pairs of the logarithm of their ratios, games taken so many ``times``: (seeds, resamples)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(above @ times.T) - np.log(below @ times.T)
    return np.asarray(logs.mean(1), np.float64)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text and the others are numbers."""
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *rows)) + "\n"


def arguments(
    description: str, results: Path, add: Callable[[argparse.ArgumentParser], object] = lambda parser: None
) -> argparse.Namespace:
    """``--quick``, ``--out`` (by default ``results`` or a folder in it) and the flags that ``add`` adds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form in minutes: shows that it runs, no more")
    parser.add_argument("--out", type=Path, help="folder of rows, tables, pictures (default: beside the program)")
    add(parser)
    args = parser.parse_args()
    if args.out is None:
        args.out = results / "quick" if args.quick else results
    return args


def start(main: Callable[[], object]) -> None:
    """Run a study's program on one core, so that several can run side by side; a user's error is one sentence."""
    torch.set_num_threads(1)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")


def write_tables(path: Path, title: str, sections: Sequence[str]) -> None:
    """Write a markdown page of tables that says which command made it, where and when."""
    facts = versions()
    about = (
        f"Made by `{command_line()}` on {facts['cores']} cores, {datetime.date.today().isoformat()}, "
        f"Python {facts['python']}, torch {facts['torch']}, numpy {facts['numpy']}."
    )
    text = "\n\n".join([f"# {title}", about, *(section.rstrip() for section in sections)]) + "\n"
    write_bytes(path, text.encode())


def evenly(dataset: Dataset, count: int) -> npt.NDArray[np.int64]:
    """Every n-th state of all whole games, n such that there are at least ``count`` where there are enough.

    Raises:
        UserError: no game is whole.
    """
    whole = np.flatnonzero(whole_games(dataset))
    if not len(whole):
        raise UserError(f"{dataset.folder} has no whole game; record more states in fewer games side by side")
    order = whole[np.lexsort((dataset.t[whole], dataset.episode[whole]))]
    return np.sort(order[:: max(1, len(order) // count)])


def _short(value: float, digits: int) -> str:
    """Significant digits without an exponent where that is readable."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{places}f}" if places <= 6 and abs(value) < 1e6 else f"{value:.{digits - 1}e}"
