"""Honest summaries of few, skewed numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from distill.system.streams import Fixed, fixed


@dataclass(frozen=True)
class Summary:
    """Returns of one agent."""

    mean: float
    """Mean return."""
    median: float
    """Median return."""
    iqm: float
    """Interquartile mean: mean of the middle half (Agarwal et al. 2021, arXiv 2108.13264)."""
    ci95: tuple[float, float]
    """95 % percentile bootstrap interval of the mean, over games."""


def summarise(returns: npt.ArrayLike, *, resamples: int = 10_000) -> Summary:
    """Mean, median, IQM and a bootstrap interval of the mean.

    Args:
        returns: one number per game.
        resamples: bootstrap resamples; the same returns always give the same interval.
    """
    values = np.asarray(returns, np.float64)
    mean = float(values.mean())
    interval = (mean, mean)
    if len(values) > 1 and np.ptp(values) > 0:
        result = stats.bootstrap(
            (values,), np.mean, n_resamples=resamples, method="percentile", rng=fixed(Fixed.BOOTSTRAP)
        )
        interval = (float(result.confidence_interval.low), float(result.confidence_interval.high))
    return Summary(mean, float(np.median(values)), float(stats.trim_mean(values, 0.25)), interval)


def t_interval(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Mean of two or more numbers, one a seed, and the ends of its 95 % interval by Student's t."""
    x = np.asarray(values, np.float64)
    mean = float(x.mean())
    half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return mean, mean - half, mean + half
