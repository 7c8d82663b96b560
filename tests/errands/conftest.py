"""A user's package in a folder of its own, outside the repository, and the command line run there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.errands import RECORD, Distill

ROOT = Path(__file__).parents[2]
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


@pytest.fixture(scope="session")
def pong(distill: Distill) -> str:
    """States of the bundled agent: the name of a dataset in ``home``."""
    distill("collect", "--env=pong", "--collect.out=pong", *RECORD)
    return "pong"


@pytest.fixture
def program(home: Path) -> Callable[..., subprocess.Popen[str]]:
    """``program("my_package.population", "folder")``: ``python -m ...`` in a process of its own."""

    def begin(*words: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=home, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return begin


@pytest.fixture(scope="session")
def breakout(distill: Distill) -> str:
    """The same of another game."""
    distill("collect", "--env=breakout", "--collect.out=breakout", *RECORD)
    return "breakout"
