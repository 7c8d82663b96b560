"""How many processes train together."""

from __future__ import annotations

import pytest

from distill.errors import UserError
from distill.system.runtime import processes


@pytest.mark.parametrize(("size", "count"), [(None, 1), ("", 1), ("1", 1), ("2", 2)])
def test_torchrun_says_how_many(monkeypatch: pytest.MonkeyPatch, size: str | None, count: int) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False) if size is None else monkeypatch.setenv("WORLD_SIZE", size)
    assert processes() == count


@pytest.mark.parametrize("size", ["x", "0", "-1", "2.0"])
def test_what_is_no_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UserError, match=rf"^WORLD_SIZE={size} in the environment is no number of processes; unset it"):
        processes()
