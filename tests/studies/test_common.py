"""Intervals over seeds, against what scipy says, and over games, against a slow reference; states of whole games."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from distill.api import Dataset, UserError
from distill.dataset.games import whole_games
from studies.common import Interval, evenly, markdown, mean_interval, ratio_interval, ratio_over_games, write_tables


def test_the_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0, 3.5]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    got = mean_interval(values)
    assert (got.mean, got.low, got.high, got.count) == pytest.approx((2.625, low, high, 4))


def test_one_seed_has_no_width_and_none_is_an_error() -> None:
    assert mean_interval([2.0]) == Interval(2.0, 2.0, 2.0, 1)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_ratios_are_paired_and_geometric() -> None:
    got = ratio_interval([2.0, 8.0], [1.0, 2.0])
    assert got.mean == pytest.approx(8**0.5)
    assert got.low < got.mean < got.high
    assert ratio_interval([2.0, 20.0], [1.0, 10.0]).high == pytest.approx(2.0)


Sums = tuple[np.ndarray, np.ndarray]
"""Of both sides of a pair, (seeds, pairs, games)."""


def simulated(rng: np.random.Generator, seeds: int, games: int, of_seeds: float, of_games: float) -> Sums:
    """Sums of two methods over games of different length and difficulty; the expected ratio is one half."""
    states = rng.lognormal(6, 0.5, games)
    common = rng.normal(0, 0.5, games)
    effect = rng.normal(0, of_games, games) - of_games**2 / 2
    below = states * np.exp(common + rng.normal(0, 0.1, (seeds, 1, games)))
    above = states * np.exp(common + effect + rng.normal(0, of_seeds, (seeds, 1, 1)) + rng.normal(0, 0.1, below.shape))
    return 0.5 * above, below


def slow_reference(above: np.ndarray, below: np.ndarray, resamples: int, seed: int) -> Interval:
    """Game by game, seed by seed and resample by resample."""
    seeds, pairs, games = above.shape
    rng = np.random.default_rng(seed)

    def mean_log(drawn: Sequence[int], i: int) -> float:
        ratios = [sum(above[i, k, g] for g in drawn) / sum(below[i, k, g] for g in drawn) for k in range(pairs)]
        return math.log(math.prod(ratios) ** (1 / pairs))

    every = [mean_log(range(games), i) for i in range(seeds)]
    means = []
    for _ in range(resamples):
        drawn = rng.integers(games, size=games).tolist()
        means.append(sum(mean_log(drawn, i) for i in range(seeds)) / seeds)
    of_games = float(np.var(means)) * games / (games - 1)
    of_seeds = float(np.var(every, ddof=1)) / seeds
    half = math.sqrt(stats.t.ppf(0.975, seeds - 1) ** 2 * of_seeds + stats.t.ppf(0.975, games - 1) ** 2 * of_games)
    mean = sum(every) / seeds
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), seeds, games)


@pytest.mark.parametrize(("seeds", "pairs", "games"), [(3, 1, 7), (2, 5, 4)])
def test_games_are_resampled_alike_for_both_sides_and_all_seeds(seeds: int, pairs: int, games: int) -> None:
    above, below = np.random.default_rng(1).lognormal(0, 1, (2, seeds, pairs, games))
    got = ratio_over_games(above, below, resamples=200, seed=5)
    want = slow_reference(above, below, 200, 5)
    assert vars(got) == pytest.approx(vars(want))
    assert got == ratio_over_games(above, below, resamples=200, seed=5)
    assert got != ratio_over_games(above, below, resamples=200, seed=6)


def test_games_that_say_the_same_add_nothing_to_the_seeds() -> None:
    states = np.array([100.0, 300.0, 200.0])
    above, below = (np.array(values)[:, None, None] * states for values in ([2.0, 3.0, 5.0], [4.0, 4.0, 4.0]))
    got, want = ratio_over_games(above, below), ratio_interval([2.0, 3.0, 5.0], [4.0] * 3)
    assert (got.mean, got.low, got.high) == pytest.approx((want.mean, want.low, want.high))
    assert (got.games, want.games) == (3, 0)


@pytest.mark.parametrize(
    ("of_seeds", "of_games"), [(0.2, 0.0), (0.2, 0.5), (0.02, 0.5)], ids=["seeds", "both", "games"]
)
def test_intervals_over_seeds_and_games_cover_the_truth(of_seeds: float, of_games: float) -> None:
    """Three seeds and 16 games, as the study has; over seeds only, intervals miss it more often than not."""
    rng, trials = np.random.default_rng(2), 400
    found = [simulated(rng, 3, 16, of_seeds, of_games) for _ in range(trials)]
    both = [ratio_over_games(*sums, resamples=300) for sums in found]
    covered = np.mean([interval.low <= 0.5 <= interval.high for interval in both])
    assert 0.90 <= covered <= 0.99
    seeds = [ratio_interval(*(part.sum((1, 2)) for part in sums)) for sums in found]
    if of_games > of_seeds > 0.1:
        assert np.mean([interval.low <= 0.5 <= interval.high for interval in seeds]) < covered
    if of_games > 0.1 > of_seeds:
        assert np.mean([interval.low <= 0.5 <= interval.high for interval in seeds]) < 0.5


@pytest.mark.parametrize("change", ["one seed", "one game", "a game without a difference"])
def test_where_games_cannot_be_resampled_the_interval_is_over_seeds(change: str) -> None:
    above, below = np.random.default_rng(1).lognormal(0, 1, (2, 3, 1, 4))
    if change == "one seed":
        above, below = above[:1], below[:1]
    elif change == "one game":
        above, below = above[..., :1], below[..., :1]
    else:
        above[..., 1:] = 0  # some resample has none of the first game
    got, want = ratio_over_games(above, below), ratio_interval(above.sum((1, 2)), below.sum((1, 2)))
    assert (got.mean, got.low, got.high, got.games) == pytest.approx((want.mean, want.low, want.high, 0))


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.01234, 0.01, 0.02, 3), "0.0123 (0.0100 .. 0.0200)"),
        (Interval(1234.5, 1200, 1300, 3), "1,234 (1,200 .. 1,300)"),
        (Interval(1.5e-9, 0, 3e-9, 3), "1.50e-09 (0 .. 3.00e-09)"),
        (Interval(2.0, -1.0, 5.0, 3), "2.00 (-1.00 .. 5.00)"),
    ],
)
def test_text_keeps_significant_digits(interval: Interval, text: str) -> None:
    assert interval.text() == text


def test_tables_say_what_made_them(tmp_path: Path) -> None:
    table = markdown(["method", "error"], [["kl", "1"]])
    assert table == "| method | error |\n| --- | --: |\n| kl | 1 |\n"
    write_tables(tmp_path / "tables.md", "A study", [table])
    text = (tmp_path / "tables.md").read_text()
    assert text.startswith("# A study\n\nMade by `")
    assert "torch" in text
    assert text.endswith("| kl | 1 |\n")


def test_states_are_taken_evenly_from_every_whole_game(pong_data: Path) -> None:
    data = Dataset(pong_data)
    with pytest.raises(UserError, match="has no whole game; record more states in fewer games side by side"):
        evenly(data, 64)
    data.ends_game[data.episode == 1] = True
    whole = np.flatnonzero(whole_games(data))
    taken = evenly(data, 40)
    assert set(data.episode[taken].tolist()) == {1}
    assert 40 <= len(taken) < 80
    steps = np.sort(data.t[taken])
    assert set(np.diff(steps).tolist()) == {len(whole) // 40}
    assert evenly(data, 10**6).tolist() == whole.tolist()
