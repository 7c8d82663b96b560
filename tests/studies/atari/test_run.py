"""Which rows count: this machine's over those kept, and none of a grid that is not finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distill.api import UserError
from distill.sweep.grid import read_rows, write_rows
from studies.atari.plan import QUICK
from studies.atari.run import finished, play, rows_of, train_longer


def test_rows_of_this_machine_come_over_those_kept_and_lose_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "longer-pong.csv"
    write_rows(kept, [{"run": "a", "kl": "1"}, {"run": "b", "kl": "2"}])
    before = kept.stat().st_mtime_ns
    assert [row["kl"] for row in finished("longer", "pong", QUICK, tmp_path)] == ["1", "2"]
    assert kept.stat().st_mtime_ns == before
    rows_of("longer", "pong", QUICK).parent.mkdir(parents=True)
    write_rows(rows_of("longer", "pong", QUICK), [{"run": "b", "kl": "3"}, {"run": "c", "kl": "4"}])
    assert [row["kl"] for row in finished("longer", "pong", QUICK, tmp_path)] == ["1", "3", "4"]
    assert [row["kl"] for row in read_rows(kept)] == ["1", "3", "4"]


@pytest.mark.parametrize("part", [train_longer, play])
def test_what_the_grid_chooses_needs_the_grid(
    part: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the grid of pong is not finished; run it with --parts grid --games pong"):
        part("pong", QUICK, tmp_path)
