"""Addresses of stores, and what a store says it has."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from distill.cli.command import main
from distill.errors import UserError
from distill.system.files import at_home
from distill.system.mirror import read_ledger
from distill.system.stores import Store, is_below


@pytest.mark.parametrize("name", ["S3://lab/data", "hdfs://lab/data", "https://lab.org/data", "abfss://lab/data"])
def test_an_address_of_an_unknown_kind_is_no_folder_here(name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name} is an address of an unknown kind.*; known: s3://, .*file://, hf://"):
        at_home(name)


@pytest.mark.parametrize("name", ["hf://org/repo", "a=b://c", "C:/data", "my.module:net", "data/s3:/x"])
def test_other_names_are_left_alone(name: str) -> None:
    assert at_home(name) == Path(name)


@pytest.mark.parametrize("below", ["", "/", "/teachers", "/teachers/"])
def test_a_file_is_not_sent_under_the_name_of_a_folder(bucket: str, below: str, tmp_path: Path, capsys: Any) -> None:
    zipped = shutil.copy("teachers/pretrained/pong-ppo.zip", tmp_path / "mine-pong.zip")
    assert main(["push", str(zipped), f"{bucket}{below}"]) == 1
    where = f"{bucket}{below}".rstrip("/")
    assert capsys.readouterr().err.endswith(f"is no file's name; write {where}/mine-pong.zip\n")
    assert Store(bucket).sizes() == {}


def test_an_object_that_marks_a_folder_is_no_file(bucket: str) -> None:
    import s3fs

    store = Store(f"{bucket}/run")
    store.write("a/b", b"1")
    for name in ("run/", "run/a/"):  # as S3's console makes them
        s3fs.S3FileSystem().call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=name, Body=b"")
    assert store.sizes() == {"a/b": 1}
    assert at_home(f"{bucket}/run").joinpath("a/b").read_bytes() == b"1"


def test_a_full_disk_here_is_not_said_to_be_the_store(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"{bucket}/run")
    store.write("a", b"1")

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store._fs, "get_file", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/here'") as told:
        store.download("a", tmp_path / "here")
    assert told.value.errno == errno.ENOSPC


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "../a", "a/../../b", "a//b", "a/."])
def test_names_that_leave_their_folder(name: str) -> None:
    assert not is_below(name)
    assert is_below("a/b.c/..d")


def test_an_object_whose_copy_would_leave_its_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"file://{tmp_path}/run")
    root = store._root
    monkeypatch.setattr(store._fs, "find", lambda *given, **more: {f"{root}/a/../../mine": {"size": 1}})
    with pytest.raises(UserError, match=r"run has an object 'a/\.\./\.\./mine', whose copy would leave its folder"):
        store.sizes()


@pytest.mark.parametrize("shards", [5, [], {"a": 5}, {"../../mine": "{}"}, {"..": "{}"}, {"/mine": "{}"}])
def test_a_ledger_that_tells_of_what_is_no_shard_is_damaged(tmp_path: Path, shards: Any) -> None:
    store = Store(f"file://{tmp_path}/data")
    store.write("ledgers/teacher.json", json.dumps({"shards": shards}).encode())
    with pytest.raises(UserError, match=r"ledgers/teacher\.json is damaged \(.*\); push the dataset again"):
        read_ledger(store, "ledgers/teacher.json")
