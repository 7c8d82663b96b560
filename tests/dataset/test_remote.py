"""Datasets, students and teachers in a store, on a server that speaks S3."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.cli.command import main
from distill.collect.verify import verify
from distill.config.config import Config
from distill.config.stages import collect, train
from distill.dataset import checked
from distill.dataset.opening import open_dataset, push_indexed
from distill.dataset.reader import Dataset
from distill.dataset.remote import Sender, push_dataset
from distill.dataset.windowed import WindowedDataset
from distill.errors import UserError
from distill.students.folder import load_student
from distill.system import mirror, stores
from distill.system.files import at_home
from distill.system.stores import Store
from teachers.card import read_card
from teachers.load import agent_game, load_teacher
from tests.fixtures.store import new_cache

SIZES = {"states": 200, "num_envs": 4, "shard_states": 64}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a store was asked for what."""
    seen: Counter[str] = Counter()
    for name in ("sizes", "read", "write", "upload", "download", "size"):
        method = getattr(Store, name)

        def counted(self: Store, *given: Any, _name: str = name, _method: Any = method, **options: Any) -> Any:
            seen[_name] += 1
            return _method(self, *given, **options)

        monkeypatch.setattr(Store, name, counted)
    return seen


def files(folder: Path) -> dict[str, bytes]:
    """Everything of a dataset but copies."""
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept if "cache" not in path.parts}


def compare(data: Dataset, other: Dataset) -> None:
    assert (len(data), data.digest) == (len(other), other.digest)
    index = np.random.default_rng(1).permutation(len(data))[:50]
    np.testing.assert_array_equal(data.stacks(index), other.stacks(index))
    np.testing.assert_array_equal(data.jacobian(index).codes, other.jacobian(index).codes)


def test_pushed_and_pulled_it_is_the_same(bucket: str, pong_copy: Path, tmp_path: Path, capsys: Any) -> None:
    url = f"{bucket}/data/pong"
    assert main(["push", str(pong_copy), url]) == 0
    assert "sent: 5 shards" in capsys.readouterr().out
    assert main(["pull", url, str(tmp_path / "pulled")]) == 0
    assert files(tmp_path / "pulled") == files(pong_copy)
    compare(Dataset(at_home(url)), Dataset(pong_copy))
    assert main(["info", url]) == 0
    assert "600 in" in capsys.readouterr().out
    assert main(["verify", url, "--sample", "8"]) == 0


@pytest.mark.parametrize("scheme", ["s3", "file"])
def test_a_run_reads_it_as_from_a_disk(
    bucket: str, scheme: str, quick: Callable[..., Config], pong_copy: Path, tmp_path: Path
) -> None:
    url = f"{bucket}/pong" if scheme == "s3" else f"file://{tmp_path}/there/pong"
    push_indexed(pong_copy, url)
    changes = {"steps": 12, "window_shards": 2}
    runs = [
        train(quick(str(number), objective={"jacobian_weight": 0.1}, train={"data": data, **changes}))
        for number, data in enumerate([str(pong_copy), url])
    ]
    here, there = (torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"] for run in runs)
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert json.loads((runs[1] / "data.json").read_text())["folder"] == url


def test_listing_is_one_call_and_two_objects_of_each_writer(
    bucket: str, pong_copy: Path, calls: Counter[str], make_config: Callable[..., Config]
) -> None:
    collect(make_config(seed=3, collect={"out": str(pong_copy), "writer": "second", **SIZES}))
    push_dataset(pong_copy, f"{bucket}/pong")
    calls.clear()
    place = at_home(f"{bucket}/pong")
    assert calls == {"read": 1 + 2 * 2, "sizes": 1}
    assert len(list(place.glob("shards/*/shard.json"))) == 5 + 4
    assert not list(place.glob("shards/*/*.npy"))
    at_home(f"{bucket}/pong")
    assert calls.total() == 6  # known for a while


def test_a_window_fetches_the_shards_that_it_needs(bucket: str, pong_copy: Path, calls: Counter[str]) -> None:
    push_indexed(pong_copy, f"{bucket}/pong")
    place = at_home(f"{bucket}/pong")
    calls.clear()
    data = open_dataset(place, window_shards=1)
    assert isinstance(data, WindowedDataset)
    data.distinct_games  # noqa: B018
    assert calls["download"] == 2 + 2  # the index, and the first shard, which tells what there is
    data.want([3])
    compare_to = Dataset(pong_copy)
    index = np.arange(data.shard_starts[3], data.shard_starts[4])
    np.testing.assert_array_equal(data.stacks(index), compare_to.stacks(index))
    assert calls["download"] == 6


def test_copies_keep_to_their_limit(bucket: str, pong_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_indexed(pong_copy, f"{bucket}/pong")
    whole = Dataset(pong_copy)
    largest = max(sum(mark.bytes for mark in record.files.values()) for record in whole.records)
    monkeypatch.setattr("distill.dataset.windowed.ROOM", 1)
    monkeypatch.setenv("DISTILL_CACHE_GB", str(3.1 * largest / 1e9))
    place = at_home(f"{bucket}/pong")
    data = open_dataset(place, window_shards=1)
    for number in (0, 1, 2, 3, 4, 1, 0):
        data.want([number])
        index = np.arange(data.shard_starts[number], data.shard_starts[number + 1])
        np.testing.assert_array_equal(data.stacks(index), whole.stacks(index))
        assert len(list(place.glob("shards/*/jacobian.npy"))) <= 3
    with pytest.raises(UserError, match=r"needs .* GB here and DISTILL_CACHE_GB allows .*--train.window_shards"):
        Dataset(place)
    monkeypatch.setenv("DISTILL_CACHE_GB", "much")
    with pytest.raises(UserError, match=r"DISTILL_CACHE_GB must be a positive number of gigabytes, got 'much'"):
        Dataset(place)


def test_an_interrupted_push_goes_on(
    bucket: str, pong_copy: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, upload, left = f"{bucket}/pong", Store.upload, iter([True] * 5)

    def failing(self: Store, path: Path, name: str) -> None:
        if path.name == "jacobian.npy" and not next(left, False):
            raise OSError("the network is down")
        upload(self, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "THREADS", 1)
        left = iter([True] * 2)
        patch.setattr(Store, "upload", failing)
        with pytest.raises(OSError, match="the network is down"):
            push_dataset(pong_copy, url)
    there = Store(url).sizes("shards")
    assert sorted(there)[-1] == "shards/teacher-00002/steps.safetensors"  # no sentinel: it does not count
    new_cache(tmp_path / "reader", monkeypatch)
    assert len(Dataset(at_home(url)).shards) == 2
    calls.clear()
    push_dataset(pong_copy, url)
    assert calls["upload"] == 5  # one file of the third, both of the others
    new_cache(tmp_path / "other", monkeypatch)
    compare(Dataset(at_home(url)), Dataset(pong_copy))
    calls.clear()
    push_dataset(pong_copy, url)
    assert calls["upload"] == 0


def test_damage_in_the_store_is_refused(bucket: str, pong_copy: Path) -> None:
    url = f"{bucket}/pong"
    push_dataset(pong_copy, url)
    content = bytearray((pong_copy / "shards/teacher-00001/jacobian.npy").read_bytes())
    content[-1] ^= 1
    Store(url).write("shards/teacher-00001/jacobian.npy", bytes(content))
    with pytest.raises(UserError, match=rf"{url}/shards/teacher-00001/jacobian\.npy does not match its checksum"):
        Dataset(at_home(url))
    assert not (at_home(url) / "shards/teacher-00001/jacobian.npy").exists()


def test_collection_sends_what_it_commits(
    bucket: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/pong"
    collect(make_config(collect={"out": url, **SIZES}))
    collect(make_config(collect={"out": str(tmp_path / "here"), **SIZES}))
    new_cache(tmp_path / "second", monkeypatch)
    collect(make_config(collect={"out": url, **SIZES, "states": 300}))  # on another machine
    collect(make_config(collect={"out": str(tmp_path / "here"), **SIZES, "states": 300}))
    new_cache(tmp_path / "third", monkeypatch)
    compare(Dataset(at_home(url)), Dataset(tmp_path / "here"))
    assert not list(tmp_path.glob("*/stores/*/shards/*/unsent"))


def test_what_was_committed_and_not_sent_is_sent_later(
    bucket: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/pong"
    config = make_config(collect={"out": url, **SIZES})
    with monkeypatch.context() as patch:
        patch.setattr(Sender, "send", lambda self, shard: (_ for _ in ()).throw(UserError("no network")))
        with pytest.raises(UserError, match="no network"):
            collect(config)
    place = at_home(url)
    assert len(list(place.glob("shards/*/unsent"))) == 1
    assert not Store(url).sizes("shards")
    collect(config)
    new_cache(tmp_path / "reader", monkeypatch)
    assert verify(at_home(url), load_teacher("pong"), sample=8).states == 200


def test_two_machines_with_one_writers_name_are_told(
    bucket: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/pong"
    collect(make_config(collect={"out": url, **SIZES}))
    shards = shutil.copytree(at_home(url) / "shards", tmp_path / "shards")
    record = json.loads((shards / "teacher-00001" / "shard.json").read_text())
    sender = Sender(at_home(url), url, "teacher")
    (shards / "teacher-00001" / "shard.json").write_text(json.dumps({**record, "seed": 9}))
    with pytest.raises(UserError, match="has another shard teacher-00001: somebody else writes there as 'teacher'"):
        sender.send(shards / "teacher-00001")


def test_another_dataset_there_is_refused(bucket: str, pong_copy: Path, pong_quarter: Path) -> None:
    push_dataset(pong_copy, f"{bucket}/pong")
    with pytest.raises(UserError, match=rf"{bucket}/pong holds another dataset than"):
        push_dataset(pong_quarter, f"{bucket}/pong")


def test_students_and_teachers_are_used_by_their_address(
    bucket: str, quick: Callable[..., Config], tmp_path: Path
) -> None:
    run = train(quick())
    zipped = tmp_path / "mine-pong.zip"
    shutil.copy("teachers/pretrained/pong-ppo.zip", zipped)
    for what, url in ((run, f"{bucket}/runs/mine"), (zipped, f"{bucket}/teachers/mine-pong.zip")):
        assert main(["push", str(what), url]) == 0
    assert main(["info", f"{bucket}/runs/mine"]) == 0
    assert load_student(at_home(f"{bucket}/runs/mine")).fingerprint == load_student(run).fingerprint
    assert load_teacher(f"{bucket}/teachers/mine-pong.zip").info.fingerprint == load_teacher("pong").info.fingerprint
    assert agent_game(f"{bucket}/teachers/mine-pong.zip") == ("pong", "its file name")
    (run / "student" / "student.json").write_text("{}")
    Store(f"{bucket}/runs/mine").write("student/student.json", b"{}")  # somebody else's push
    mirror._looked.clear()
    assert (at_home(f"{bucket}/runs/mine") / "student" / "student.json").read_bytes() == b"{}"


def test_without_packages_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    mirror._looked.clear()
    assert main(["info", "s3://bucket/pong"]) == 1
    assert "stores need fsspec and s3fs; pip install 'atari-sobolev[stores]'" in capsys.readouterr().err


def test_what_is_not_there_or_cannot_be_reached(
    bucket: str, quick: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no dataset at "):
        train(quick(train={"data": f"{bucket}/nothing"}))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(stores, "OPTIONS", {"skip_instance_cache": True})
    mirror._looked.clear()
    with pytest.raises(UserError, match=rf"{bucket}/pong cannot be used: .*credentials and the network"):
        at_home(f"{bucket}/pong")


def test_runs_are_written_here(quick: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"--train.out must be a folder here; .*distill push"):
        quick(train={"out": "s3://bucket/run"})


def test_addresses_have_one_spelling() -> None:
    assert [stores.address(name) for name in ("s3://b/x/", Path("s3://b/x"), "file:///t/x")] == [
        "s3://b/x", "s3://b/x", "file:///t/x",
    ]  # fmt: skip
    assert not any(map(stores.is_store, ("data/pong", "/tmp/s3", "hf://org/repo", "my.module:net", "C:/data")))


def test_what_is_gone_from_a_store_is_not_read_from_its_copy(
    bucket: str, pong_copy: Path, tmp_path: Path, capsys: Any
) -> None:
    there = tmp_path / "there"
    url = f"file://{there}"
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/1.pt", "checkpoints/2.pt"):
        (tmp_path / "run" / name).write_text(name)
    assert main(["push", str(tmp_path / "run"), f"{url}/run"]) == 0
    push_indexed(pong_copy, f"{url}/pong")
    run, data = at_home(f"{url}/run"), at_home(f"{url}/pong")
    Dataset(data)  # its shards are here now

    (there / "run" / "checkpoints" / "2.pt").unlink()
    mirror._looked.clear()
    assert sorted(path.name for path in at_home(f"{url}/run").rglob("*.*")) == ["1.pt", "config.yaml"]
    record = there / "pong" / "ledgers" / "teacher.json"
    record.write_text(record.read_text().replace("sha256", "sha265", 1))  # a shard of the same name
    mirror._looked.clear()
    with pytest.raises(UserError, match=r"/pong has another shard teacher-0000\d than .*; remove the copy"):
        at_home(f"{url}/pong")

    shutil.rmtree(there)
    mirror._looked.clear()
    assert not at_home(f"{url}/run").exists()
    assert not run.exists()
    assert main(["info", f"{url}/pong"]) == 1
    assert f"/pong had a dataset and has none any more; put it back (`distill push {data} " in (
        capsys.readouterr().err.replace("\n", " ")
    )
    assert main(["push", str(data), f"{url}/pong"]) == 0, "nothing is lost"
    assert (there / "pong" / "ledgers" / "teacher.json").is_file()


def test_another_run_there_is_refused(bucket: str, pong_copy: Path, tmp_path: Path, capsys: Any) -> None:
    for seed in (1, 2):
        (tmp_path / f"run{seed}").mkdir()
        (tmp_path / f"run{seed}" / "config.yaml").write_text(f"seed: {seed}\ntrain: {{steps: 5}}\n")
    assert main(["push", str(tmp_path / "run1"), f"{bucket}/run"]) == 0
    assert main(["push", str(tmp_path / "run1"), f"{bucket}/run"]) == 0, "the same one may be sent again"
    assert main(["push", str(tmp_path / "run2"), f"{bucket}/run"]) == 1
    assert "seed was 1, now 2; choose another address" in capsys.readouterr().err.replace("\n", " ")
    assert Store(f"{bucket}/run").read("config.yaml") == (tmp_path / "run1" / "config.yaml").read_bytes()
    push_dataset(pong_copy, f"{bucket}/pong")
    assert main(["push", str(tmp_path / "run1"), f"{bucket}/pong"]) == 1
    assert f"{bucket}/pong has a dataset; choose another address" in capsys.readouterr().err.replace("\n", " ")
    before = Store(f"{bucket}/run").sizes()
    assert main(["push", str(pong_copy), f"{bucket}/run"]) == 1
    assert f"{bucket}/run has a run; choose another address" in capsys.readouterr().err.replace("\n", " ")
    assert Store(f"{bucket}/run").sizes() == before


def test_a_teachers_card_comes_with_it(bucket: str, tmp_path: Path, capsys: Any) -> None:
    """It says what the agent sees."""
    (tmp_path / "one.zip").write_text("weights")
    (tmp_path / "one.md").write_text("preset: sb3-fast")
    assert main(["push", str(tmp_path / "one.zip"), f"{bucket}/one.zip"]) == 0
    assert main(["pull", f"{bucket}/one.zip", str(tmp_path / "new" / "two.zip")]) == 0
    assert (tmp_path / "new" / "two.md").read_text() == "preset: sb3-fast"
    (tmp_path / "three.md").write_text("mine")
    capsys.readouterr()
    assert main(["pull", f"{bucket}/one.zip", str(tmp_path / "three.zip")]) == 1
    assert "three.md is in the way of the card of" in capsys.readouterr().err.replace("\n", " ")
    assert (tmp_path / "three.md").read_text() == "mine"
    assert not (tmp_path / "three.zip").exists()


def test_another_student_or_file_there_is_refused(bucket: str, tmp_path: Path, capsys: Any) -> None:
    """Nor does anything replace a thing of another kind; what is there may be sent again."""

    def push(name: str, where: str) -> str:
        status = main(["push", str(tmp_path / name), f"{bucket}/{where}"])
        return f"{status} {capsys.readouterr().err}".replace("\n", " ")

    for name, file in (("run", "config.yaml"), ("one", "student.json"), ("other", "student.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(f'{{"seed": "{name}"}}')
        (tmp_path / f"{name}.zip").write_text(name)
    for _ in range(2):
        assert [push("one", "x"), push("one.zip", "x.zip"), push("run", "run")] == ["0 "] * 3
    assert f"{bucket}/x has another student than {tmp_path / 'other'}; choose another address" in push("other", "x")
    assert f"{bucket}/x has a student; choose another address for {tmp_path / 'run'}" in push("run", "x")
    assert f"{bucket}/run has a run; choose another address" in push("one", "run")
    for name in ("other.zip", "other"):
        assert f"{bucket}/x.zip is a file that is there already; choose another address" in push(name, "x.zip")
    assert Store(bucket).read("x/student.json") == (tmp_path / "one" / "student.json").read_bytes()
    assert Store(bucket).read("x.zip") == b"one"


def test_a_teacher_travels_with_its_card(bucket: str, tmp_path: Path) -> None:
    for suffix in (".zip", ".md"):
        shutil.copy(f"teachers/pretrained/pong-ppo{suffix}", tmp_path / f"pong-mine{suffix}")
    url = f"{bucket}/teachers/pong-mine.zip"
    assert main(["push", str(tmp_path / "pong-mine.zip"), url]) == 0
    assert read_card(at_home(url).with_suffix(".md")) == read_card(tmp_path / "pong-mine.md") != {}


def test_a_ledger_keeps_what_another_of_that_name_has_sent(
    bucket: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/pong"
    collect(make_config(collect={"out": url, **SIZES, "states": 64}))
    new_cache(tmp_path / "second", monkeypatch)
    second = Sender(at_home(url), url, "teacher")  # a machine where the same command was started meanwhile
    new_cache(tmp_path / "first", monkeypatch)
    collect(make_config(collect={"out": url, **SIZES}))
    second.tell()
    new_cache(tmp_path / "reader", monkeypatch)
    assert len(Dataset(at_home(url))) == 200


def test_a_damaged_index_is_made_here_and_mended_by_push(
    bucket: str, pong_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    url = f"{bucket}/pong"
    push_indexed(pong_copy, url)
    (name,) = (name for name in Store(url).sizes("cache") if "index-" in name)
    good = (pong_copy / name).read_bytes()
    Store(url).write(name, good[:-1] + bytes([good[-1] ^ 1]))
    Store(url).write("cache/index-0123456789ab.npy", b"of the data before it grew")
    for asked in (True, False):
        new_cache(tmp_path / f"reader{asked}", monkeypatch)
        compare(open_dataset(at_home(url), window_shards=1, verify=asked), Dataset(pong_copy))
        assert f"{name} does not match its checksum: it is made here" in capsys.readouterr().out.replace("\n", "")
        assert not (at_home(url) / "cache/index-0123456789ab.npy").exists()
    push_indexed(pong_copy, url)
    assert Store(url).read(name) == good


def test_a_large_one_is_verified_where_it_lies(
    bucket: str, pong_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    url = f"{bucket}/pong"
    push_indexed(pong_copy, url)
    monkeypatch.setattr(checked, "FEW_FRAMES", 0)
    monkeypatch.setattr(checked, "ROOM", 1)
    largest = max(sum(mark.bytes for mark in record.files.values()) for record in Dataset(pong_copy).records)
    monkeypatch.setenv("DISTILL_CACHE_GB", str(9.1 * largest / 1e9))
    assert main(["verify", url, "--sample", "8"]) == 0
    assert "5 shards, 600 states: all equal" in capsys.readouterr().out


def test_a_collection_keeps_to_the_limit_of_copies(
    bucket: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, shard = f"{bucket}/pong", 1.8e6
    monkeypatch.setenv("DISTILL_CACHE_GB", str(2.5 * shard / 1e9))
    first = collect(make_config(collect={"out": url, **SIZES, "states": 256}))
    assert shard < 64 * first.bytes_per_state < 1.2 * shard
    here = [path.parent.name for path in first.folder.glob("shards/*/jacobian.npy")]
    assert sorted(here) == ["teacher-00002", "teacher-00003"]
    new_cache(tmp_path / "second", monkeypatch)
    more = collect(make_config(collect={"out": url, **SIZES, "states": 320}))
    assert more.bytes_per_state == pytest.approx(first.bytes_per_state, rel=0.02), "of all, wherever they are"
    new_cache(tmp_path / "reader", monkeypatch)
    monkeypatch.delenv("DISTILL_CACHE_GB")
    assert verify(at_home(url), load_teacher("pong"), sample=8).states == 320


def test_what_was_sent_before_a_kill_is_told_of(
    bucket: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/pong"
    collect(make_config(collect={"out": url, **SIZES, "states": 64}))
    with monkeypatch.context() as patch:
        patch.setattr(Sender, "tell", lambda self: None)  # SIGKILL right before
        collect(make_config(collect={"out": url, **SIZES, "states": 192}))
    collect(make_config(collect={"out": url, **SIZES, "states": 256}))
    new_cache(tmp_path / "reader", monkeypatch)
    assert len(Dataset(at_home(url))) == 256


def test_a_shard_that_a_store_has_lost_is_named(
    bucket: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/pong"
    collect(make_config(collect={"out": url, **SIZES, "states": 64}))
    new_cache(tmp_path / "second", monkeypatch)
    at_home(url)
    Store(url)._fs.rm(f"{url}/shards", recursive=True)
    Store(url)._fs.rm(f"{url}/ledgers", recursive=True)
    with pytest.raises(UserError, match=rf"{url} has lost shard teacher-00000, which was sent there"):
        collect(make_config(collect={"out": url, **SIZES, "states": 128}))


def test_folders_of_the_users_own_beside_a_pulled_one_stay(tmp_path: Path) -> None:
    """However they are called, whether or not the target is there."""
    store = tmp_path / "store" / "run"
    store.mkdir(parents=True)
    (store / "config.yaml").write_text("env: pong\n")
    for number, (names, made) in enumerate([(("new", "old"), False), (("new", "old"), True), (("old",), False)]):
        target = tmp_path / str(number) / "pong"
        mine = [target.with_name(f"pong.{name}") / "mine.txt" for name in names]
        for path in mine:
            path.parent.mkdir(parents=True)
            path.write_text("x")
        if made:
            target.mkdir()
        assert main(["pull", f"file://{store}", str(target)]) == 0
        assert (target / "config.yaml").is_file()
        assert all(path.read_text() == "x" for path in mine)
        assert len(list(target.parent.iterdir())) == 1 + len(mine)


@pytest.mark.parametrize(
    ("section", "before", "now"),
    [
        ("imitate", {"states": 200}, {"states": 400}),
        ("rounds", {"form": "online"}, {"form": "rounds"}),
        ("finetune", {"states": 200}, {"states": 400}),
        ("multitask", {"data": ["pong"]}, {"data": ["breakout"]}),
        ("shrink", {"games": 2}, {"games": 4}),
        ("sweep", {"games": 2}, {"games": 4}),
        ("pbt", {"population": 2}, {"population": 4}),
    ],
)
def test_runs_of_every_command_do_not_mix(
    section: str, before: dict[str, Any], now: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    folder, url = tmp_path / "run", f"file://{tmp_path}/there"
    folder.mkdir()
    out = {} if section == "rounds" else {"out": "elsewhere"}
    for settings, place in ((before, "a"), ({**before, **out}, "a"), (now, "b")):
        (folder / "config.yaml").write_text(json.dumps({"seed": 1, section: settings}))
        assert main(["push", str(folder), f"{url}/{place}"]) == 0
    assert main(["push", str(folder), f"{url}/a"]) == 1
    assert f"{section}.{next(iter(now))} was" in " ".join(capsys.readouterr().err.split())
    (folder / "config.yaml").write_text(json.dumps({"seed": 1, "train": {}}))
    assert main(["push", str(folder), f"{url}/a"]) == 1
    assert f"it is of distill {section}, not train" in " ".join(capsys.readouterr().err.split())


def test_students_in_folders_below_are_not_replaced(tmp_path: Path, capsys: Any) -> None:
    folder, url = tmp_path / "several", f"file://{tmp_path}/there"
    papers = folder / "pong" / "student" / "student.json"
    papers.parent.mkdir(parents=True)
    papers.write_text("one")
    assert [main(["push", str(folder), url]) for _ in range(2)] == [0, 0]
    papers.write_text("two")
    assert main(["push", str(folder), url]) == 1
    assert "has another student than" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "there" / "pong" / "student" / "student.json").read_text() == "one"


def test_the_folder_where_one_is_cannot_be_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, here = tmp_path / "store", tmp_path / "here"
    for folder in (store, here):
        folder.mkdir()
    (store / "config.yaml").write_text("env: pong\n")
    monkeypatch.chdir(here)
    assert main(["pull", f"file://{store}", "."]) == 1
    assert capsys.readouterr().err.strip() == "error: . is where you are; name a folder to be made"
