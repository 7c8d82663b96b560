"""What may not be read is told as such, not as a folder to write elsewhere, nor as lost."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distill.cli.command import main
from distill.system.files import check_folders, unreadable
from distill.system.trouble import sentence

NOBODY = 65534


def as_nobody(work: Callable[[], str]) -> str:
    """What ``work`` returns, in a process that may read only what everybody may."""
    if os.geteuid() != 0:
        return work()
    outlet, inlet = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            said = work()
        except BaseException as error:
            said = repr(error)
        os.write(inlet, said.encode())
        os._exit(0)
    os.close(inlet)
    os.waitpid(pid, 0)
    with os.fdopen(outlet) as pipe:
        return pipe.read()


@pytest.fixture
def data(pong_data: Path) -> Iterator[Path]:
    """A copy that everybody may read, where pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    copy = Path(shutil.copytree(pong_data, folder / "data"))
    yield copy
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o700)
    shutil.rmtree(folder)


def info(folder: Path) -> str:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main(["info", str(folder)])
    return f"{status} {said.getvalue()}"


CLOSED = ["shards/teacher-00001/jacobian.npy", "shards/teacher-00002", "shards", "writers", ""]


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("mode", [0o000, 0o200], ids=oct)
def test_a_dataset(data: Path, name: str, mode: int) -> None:
    assert info(data).startswith("0 ")  # and all modules are imported
    (data / name).chmod(mode)
    said = as_nobody(lambda: info(data))
    assert said.startswith(f"1 error: cannot read {data / name}: permission denied; have its owner allow it"), said


def test_a_folder_that_can_be_listed_but_not_entered(data: Path) -> None:
    info(data)
    (data / "shards").chmod(0o644)
    assert f"cannot read {data / 'shards'}: permission denied" in as_nobody(lambda: info(data))


def test_a_folder_that_cannot_be_written(data: Path) -> None:
    info(data)
    for path in [data, *data.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def write() -> str:
        try:
            (data / "new").mkdir()
        except OSError as error:
            return str(sentence(error))
        return "written"

    assert as_nobody(write) == f"cannot write {data / 'new'}: permission denied; choose another folder"
    assert as_nobody(lambda: info(data)).startswith("0 ")


def test_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    check_folders(tmp_path)
    check_folders(tmp_path / "gone")
    assert unreadable(tmp_path / "a" / "b") is None
    assert unreadable(tmp_path / "gone" / "x") is None


def test_a_name_that_is_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["verify", "x" * 300], ["train", "--train.data", "x" * 300]):
        assert main(words) == 1
        line = capsys.readouterr().err
        assert re.fullmatch(r"error: cannot open x+.*: file name too long; choose a shorter name\n", line), line
