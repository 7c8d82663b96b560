"""Which rows count: this machine's over those kept, and none of a grid that is not finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distill.api import UserError
from distill.sweep.grid import read_rows, write_rows
from studies.atari.plan import QUICK
from studies.atari.run import finished, play, rows_of, score, train_same_steps, with_tests


def test_rows_of_this_machine_come_over_those_kept_and_lose_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "steps-pong.csv"
    write_rows(kept, [{"run": "a", "kl": "1"}, {"run": "b", "kl": "2"}])
    before = kept.stat().st_mtime_ns
    assert [row["kl"] for row in finished("steps", "pong", QUICK, tmp_path)] == ["1", "2"]
    assert kept.stat().st_mtime_ns == before
    rows_of("steps", "pong", QUICK).parent.mkdir(parents=True)
    write_rows(rows_of("steps", "pong", QUICK), [{"run": "b", "kl": "3"}, {"run": "c", "kl": "4"}])
    assert [row["kl"] for row in finished("steps", "pong", QUICK, tmp_path)] == ["1", "3", "4"]
    assert [row["kl"] for row in read_rows(kept)] == ["1", "3", "4"]


@pytest.mark.parametrize("part", [train_same_steps, score, play])
def test_what_the_grid_chooses_needs_the_grid(
    part: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the grid of pong is not finished; run it with --parts grid --games pong"):
        part("pong", QUICK, tmp_path)


def test_figures_on_test_games_join_the_rows_of_their_part(tmp_path: Path) -> None:
    write_rows(tmp_path / "grid-pong.csv", [{"run": "a", "val_kl": "1"}, {"run": "b", "val_kl": "2"}])
    test_rows = [{"part": "grid", "run": "b", "test_kl": "3"}, {"part": "steps", "run": "a", "test_kl": "4"}]
    write_rows(tmp_path / "test-pong.csv", test_rows)
    rows = with_tests("grid", "pong", QUICK, tmp_path)
    assert [row.get("test_kl") for row in rows] == [None, "3"]
