"""A user's package in a folder of its own, outside the repository, and the command line run there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "my_package"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``my_package`` lies in, and that commands run in."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(PACKAGE, folder / "my_package", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "agent.seeded").write_text("7")
    return folder


@pytest.fixture(scope="session")
def distill(home: Path, start: Callable[..., object]) -> Callable[..., str]:
    """``distill("collect", "--env", "pong", fails=False, plugins=True)``: the command's output, or its error."""

    def run(*words: str, fails: bool = False, plugins: bool = True) -> str:
        process = start(*words, cwd=home, env={"DISTILL_PLUGINS": "my_package"} if plugins else {})
        status, stderr = process.wait(), process.stderr.read_text()  # type: ignore[attr-defined]
        assert status == (1 if fails else 0), stderr
        return stderr if fails else (process.stderr.parent / "stdout").read_text()  # type: ignore[attr-defined]

    return run
