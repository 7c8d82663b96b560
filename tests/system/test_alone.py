"""One process at a time in a folder, as two stages and real processes have it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.records.runs import DESCRIPTION, only_described
from distill.system.alone import alone
from distill.system.files import is_vacant


def test_one_holds_it_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        alone(folder, "--imitate.out"),
        pytest.raises(
            UserError, match=r"another process is at work in .*; wait for it or choose another --imitate.out"
        ),
        alone(folder, "--imitate.out"),
    ):
        pass
    with alone(folder, "--imitate.out"):
        pass
    assert is_vacant(folder), "a lock is nothing that a run could lose"
    for name in DESCRIPTION:
        (folder / name).touch()
    assert only_described(folder)
    (folder / "data.json").touch()
    assert only_described(folder)
    (folder / "rows.csv").touch()
    assert not only_described(folder)


def test_a_file_system_without_locks_is_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(*given: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", without)
    with alone(tmp_path / "run", "--imitate.out"):
        pass
    assert "no file can be locked there (Function not implemented)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "words",
    [
        ("imitate", "--env=pong", "--imitate.out"),
        ("train", "--train.data=DATA", "--train.out"),
        ("rounds", "--env=pong", "--imitate.out"),
        ("rounds", "--env=pong", "--rounds.form=rounds", "--imitate.out"),
        ("finetune", "pong", "--finetune.out"),
        ("multitask", "--multitask.data=[DATA]", "--multitask.out"),
    ],
)
def test_a_run_is_of_one_process(
    words: tuple[str, ...], start: Callable[..., Any], pong_data: Path, tmp_path: Path
) -> None:
    *others, flag = words
    folder = tmp_path / "run"
    with alone(folder, flag):
        process = start(*(word.replace("DATA", str(pong_data)) for word in others), f"{flag}={folder}", "--device=cpu")
        assert process.wait() == 1
    told = f"another process is at work in {folder}; wait for it or choose another {flag}\n"
    assert process.stderr.read_text().endswith(told)
    assert is_vacant(folder), "it wrote nothing"
