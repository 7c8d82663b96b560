"""Intervals over seeds, against what scipy says of the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from studies.common import Interval, markdown, mean_interval, ratio_interval, write_tables


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
