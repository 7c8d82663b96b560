from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from distill.figures.statistics import Summary, summarise, t_interval

Returns = npt.NDArray[np.float64]


def interquartile_mean(values: Returns) -> float:
    """rliable's: the mean without the lowest and the highest quarter, rounded down to whole games."""
    cut = len(values) // 4
    return float(np.sort(values)[cut : len(values) - cut].mean())


@pytest.fixture
def returns() -> Returns:
    """Skewed, as returns are."""
    return np.random.default_rng(0).exponential(100, 50)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 50])
def test_mean_median_iqm(returns: Returns, count: int) -> None:
    values = returns[:count]
    summary = summarise(values, resamples=100)
    assert summary.mean == pytest.approx(values.mean())
    assert summary.median == pytest.approx(np.percentile(values, 50))
    assert summary.iqm == pytest.approx(interquartile_mean(values))


def test_iqm_ignores_an_outlier() -> None:
    assert summarise([1, 2, 3, 4, 5, 6, 7, 1e9], resamples=100).iqm == pytest.approx(4.5)


def test_interval_is_a_percentile_bootstrap_of_the_mean(returns: Returns) -> None:
    rng = np.random.default_rng(1)
    means = rng.choice(returns, (20_000, len(returns))).mean(1)
    low, high = summarise(returns).ci95
    spread = returns.std() / len(returns) ** 0.5
    assert low == pytest.approx(np.percentile(means, 2.5), abs=0.06 * spread)
    assert high == pytest.approx(np.percentile(means, 97.5), abs=0.06 * spread)
    assert low < returns.mean() < high


def test_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(2)
    intervals = [summarise(rng.normal(5, 3, 40), resamples=400).ci95 for _ in range(200)]
    covered = np.mean([low <= 5 <= high for low, high in intervals])
    # 95 % less a little for 40 games; its own error over 200 trials is 1.6 %.
    assert 0.88 <= covered <= 0.99


def test_same_returns_same_interval(returns: Returns) -> None:
    assert summarise(returns) == summarise(list(returns))


@pytest.mark.parametrize("values", [[7.0], [21.0, 21.0, 21.0]])
def test_constant_returns_have_no_interval(values: list[float]) -> None:
    assert summarise(values) == Summary(values[0], values[0], values[0], (values[0], values[0]))


def test_students_interval_is_scipys() -> None:
    values = [8.0, 10.0, 13.5]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((10.5, low, high))
