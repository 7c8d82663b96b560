from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.system.files import (
    is_vacant,
    read_json,
    remove_leftovers,
    replace_folder,
    replacing,
    settle_folder,
    sha256,
    write_bytes,
    write_json,
)


def test_replacing_puts_the_new_file_in_place(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_replacing_keeps_the_old_file_on_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"ha")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    calls: list[str] = []
    for name, real in (("fsync", os.fsync), ("replace", os.replace)):

        def noted(*args: Any, name: str = name, real: Any = real) -> None:
            calls.append(name)
            real(*args)

        monkeypatch.setattr(os, name, noted)
    with path.open("rb") as reader:
        with replacing(path) as temporary:
            temporary.write_bytes(b"new")
            inode = temporary.stat().st_ino
        assert reader.read() == b"old"
    assert path.stat().st_ino == inode, "renamed, not copied"
    assert calls == ["fsync", "replace", "fsync"], "the bytes, then the name, then the folder"


def test_a_failed_write_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as failed, replacing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert failed.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize(
    ("names", "vacant"),
    [
        ([], True),
        ([".x.json.12.tmp"], True),
        ([".x.json.12.tmp", "y"], False),
        ([".hidden"], False),
        (["x.tmp"], False),
    ],
)
def test_is_vacant_overlooks_only_what_a_killed_write_leaves(tmp_path: Path, names: list[str], vacant: bool) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert is_vacant(tmp_path) is vacant


def test_fields_that_are_missing_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": None})
    assert read_json(tmp_path / "x.json", "record", "a") == {"a": None}
    with pytest.raises(UserError, match=r"x\.json is not a complete record: it has no 'b'"):
        read_json(tmp_path / "x.json", "record", "a", "b")


def test_nothing_written_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_bytes() == b"old"


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "b": "µ"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json", "record") == value


def test_json_with_nan_is_refused_before_the_old_file_is_touched(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
    assert read_json(tmp_path / "x.json", "record") == 1


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    write_bytes(tmp_path / "x.json", content)
    with pytest.raises(UserError, match=r"x\.json is not a readable record \(.+\); restore it from a copy"):
        read_json(tmp_path / "x.json", "record")


def test_json_that_an_editor_has_saved_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes('\ufeff{\r\n"a": "\u00e4"}'.encode())
    assert read_json(tmp_path / "x.json", "record", "a") == {"a": "\u00e4"}


def test_sha256(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"abc")
    assert sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


@pytest.fixture
def dead() -> int:
    """Id of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def temporary_of(path: Path, pid: int) -> Path:
    """The temporary name that a process of this machine uses."""
    with replacing(path) as temporary:
        temporary.touch()
    return temporary.with_name(temporary.name.replace(f".{os.getpid()}.tmp", f".{pid}.tmp"))


def test_a_write_removes_what_dead_processes_left(tmp_path: Path, dead: int) -> None:
    path = tmp_path / "last.pt"
    left, living = temporary_of(path, dead), temporary_of(path, 1)
    others = [tmp_path / f".last.pt.00000000.{dead}.tmp", tmp_path / f".last.pt.{dead}.tmp", tmp_path / ".x.tmp"]
    for file in (left, living, *others):
        file.touch()
    write_bytes(path, b"new")
    assert sorted(tmp_path.iterdir()) == sorted([path, living, *others])
    for file in (living, *others):
        os.utime(file, (0, 0))
    write_bytes(path, b"new")
    assert sorted(tmp_path.iterdir()) == sorted([path, living, tmp_path / ".x.tmp"]), "a living process's stays"


def test_leftovers_of_a_whole_run_are_found(tmp_path: Path, dead: int) -> None:
    inner = tmp_path / "run" / "student" / "model.safetensors"
    left = temporary_of(inner, dead)
    left.touch()
    remove_leftovers(tmp_path)
    assert left.exists()
    remove_leftovers(tmp_path, below=True)
    assert list(inner.parent.iterdir()) == [inner]


def test_what_is_replaced_can_be_kept(tmp_path: Path) -> None:
    path, before = tmp_path / "last", tmp_path / "previous"
    for content in (b"1", b"2", b"3"):
        write_bytes(path, content, keep=before)
    assert (path.read_bytes(), before.read_bytes()) == (b"3", b"2")


def test_names_of_temporary_files_are_known_as_such(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as temporary:
        temporary.touch()
        assert is_vacant(tmp_path)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed anywhere, a whole one is there, the old or the new, once what was left is settled."""
    place = tmp_path / "best"

    def write(text: str) -> Callable[[Path], None]:
        def inside(folder: Path) -> None:
            folder.mkdir()
            for name in ("weights", "papers"):
                write_bytes(folder / name, text.encode())

        return inside

    def texts() -> set[str]:
        return {(place / name).read_text() for name in ("weights", "papers")}

    replace_folder(place, write("first"))
    replace = os.replace
    done: list[tuple[Path, ...]] = []

    def killing(at: int) -> Callable[..., None]:
        def rename(*names: Path) -> None:
            done.append(names)
            if len(done) == at:
                raise KeyboardInterrupt
            replace(*names)

        return rename

    for at in range(1, 6):
        done.clear()
        monkeypatch.setattr(os, "replace", killing(at))
        if at == 5:
            replace_folder(place, write("5"))
        else:
            with pytest.raises(KeyboardInterrupt):
                replace_folder(place, write(str(at)))
        monkeypatch.setattr(os, "replace", replace)
        settle_folder(place)
        assert texts() == ({"first"} if at <= 3 else {str(at)})
        assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_what_an_earlier_version_left_beside_a_folder_of_a_run_is_settled(tmp_path: Path) -> None:
    """Between its two renames the new one is all that is whole; an old one alone is not thrown away."""
    place, new, old = (tmp_path / name for name in ("best", "best.new", "best.old"))
    for folder in (new, old):
        folder.mkdir()
        (folder / "weights").write_text(folder.name)
    settle_folder(place)
    assert new.exists()
    assert old.exists()
    assert not place.exists()
    settle_folder(place, own=True)
    assert (place / "weights").read_text() == "best.new"
    assert not new.exists()
    assert not old.exists()
    os.replace(place, old)
    settle_folder(place, own=True)
    assert old.exists()
    assert not place.exists()
