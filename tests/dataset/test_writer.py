"""Who may write where, and what a writer leaves behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.split import split_by_episode
from distill.dataset.used import data_used, held_out
from distill.dataset.writer import DatasetWriter
from distill.errors import UserError
from distill.records.dataset import Identity, read_writer
from tests.fixtures.records import training

ROOT = Path(__file__).parents[2]
Open = Callable[..., DatasetWriter]
Make = Callable[..., ShardArrays]


def content(folder: Path) -> dict[str, bytes]:
    """Every file but locks, which are empty."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("leave", ["", "steps.safetensors", "jacobian.npy", ".shard.json.123.tmp"])
def test_unfinished_shard_is_dropped_and_its_number_used_again(
    tmp_path: Path, open_writer: Open, make_arrays: Make, facts: Any, leave: str
) -> None:
    writer = open_writer(tmp_path / "data")
    writer.commit(make_arrays(3, seed=1), facts(1))
    writer.close()
    unfinished = tmp_path / "data" / "shards" / "a-00001"
    unfinished.mkdir()
    if leave:
        (unfinished / leave).write_bytes(b"half of")
    other = tmp_path / "data" / "shards" / "ab-00001"
    other.mkdir()
    assert len(Dataset(tmp_path / "data")) == 3
    writer = open_writer(tmp_path / "data")
    assert not unfinished.exists()
    assert other.exists(), "another writer may be at work in there"
    assert writer.commit(make_arrays(4, seed=2), facts(2)) == unfinished
    assert len(Dataset(tmp_path / "data", verify=True)) == 7


def test_two_writers_share_a_dataset(tmp_path: Path, open_writer: Open, make_arrays: Make, facts: Any) -> None:
    folder = tmp_path / "data"
    writers = {name: open_writer(folder, name) for name in ("b", "a")}
    for step in range(3):
        for name, writer in writers.items():
            writer.commit(make_arrays(2, seed=10 * step + ord(name)), facts(step + 1))
    dataset = Dataset(folder, verify=True)
    assert [path.name for path in dataset.shards] == [f"{name}-{n:05d}" for name in "ab" for n in range(3)]
    assert dataset.writer.tolist() == [0] * 6 + [1] * 6
    # Both number their games from 0; in the dataset they are different games.
    assert not set(dataset.episode[:6]) & set(dataset.episode[6:])
    want = np.concatenate([make_arrays(2, seed=10 * step + ord(name)).logits for name in "ab" for step in range(3)])
    np.testing.assert_array_equal(dataset.logits, want)


def test_reader_sees_only_committed_shards_while_another_writes(
    tmp_path: Path, open_writer: Open, make_arrays: Make, facts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that lists a folder in the middle of commits never takes a new shard for a lost one."""
    folder = tmp_path / "data"
    writer = open_writer(folder)
    writer.commit(make_arrays(2), facts(1))
    glob = Path.glob

    def slow_glob(self: Path, pattern: str) -> Any:
        found = list(glob(self, pattern))
        if len(writer.shards) < 3:
            writer.commit(make_arrays(2, seed=len(writer.shards)), facts(1))
        return found

    monkeypatch.setattr(Path, "glob", slow_glob)
    assert len(Dataset(folder)) in (2, 4, 6)
    assert len(writer.shards) == 3


def test_second_process_with_the_same_name_is_refused(tmp_path: Path, open_writer: Open) -> None:
    open_writer(tmp_path / "data")
    program = (
        "import sys; from pathlib import Path; from distill.dataset.writer import DatasetWriter\n"
        "from distill.dataset.schema import read_manifest\n"
        "folder = Path(sys.argv[1])\n"
        "for name in 'ba':\n"
        "    DatasetWriter(folder, read_manifest(folder).identity, name, {}, {})\n"
        "    print(name, 'opened')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.stdout == "b opened\n"
    assert "WriterInUseError: another process is collecting into" in done.stderr
    assert "as 'a'; wait for it or choose another --collect.writer" in done.stderr


def test_name_is_free_again_after_close_and_after_a_refusal(tmp_path: Path, open_writer: Open) -> None:
    writer = open_writer(tmp_path / "data")
    with pytest.raises(UserError, match="another process is collecting"):
        open_writer(tmp_path / "data")
    writer.close()
    with pytest.raises(UserError, match="acted differently") as refusal:
        open_writer(tmp_path / "data", seed=2)
    open_writer(tmp_path / "data")
    del refusal


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("game", "breakout", "game is pong, not breakout"),
        ("preset_hash", "def", "preset_hash is abc, not def"),
        ("teacher", "ffff", "teacher is 0123456789abcdef, not ffff"),
        ("law", "fisher", "law is sphere, not fisher"),
        ("codec", "fp16", "codec is int8, not fp16"),
        ("k", 3, "k is 2, not 3"),
    ],
)
def test_other_identity_is_refused_and_the_difference_named(
    tmp_path: Path, open_writer: Open, identity: Identity, field: str, value: Any, message: str
) -> None:
    open_writer(tmp_path / "data")
    before = content(tmp_path)
    with pytest.raises(UserError, match=f"was collected differently: {message}; choose another --collect.out"):
        open_writer(tmp_path / "data", "b", replace(identity, **{field: value}))
    assert content(tmp_path) == before


def test_other_behaviour_is_refused_before_the_first_shard_too(
    tmp_path: Path, open_writer: Open, make_arrays: Make, facts: Any
) -> None:
    open_writer(tmp_path / "data").close()
    with pytest.raises(UserError, match=r"writer 'a' of .* acted differently: seed is 1, not 2; .*--collect.writer"):
        open_writer(tmp_path / "data", seed=2)
    open_writer(tmp_path / "data", "b", seed=2)


@pytest.mark.parametrize("file", ["notes.txt", ".hidden", "dataset.json.bak"])
def test_foreign_folder_is_refused_and_untouched(tmp_path: Path, open_writer: Open, file: str) -> None:
    (tmp_path / file).write_text("mine")
    with pytest.raises(UserError, match=r"exists and is not a dataset; choose another --collect\.out"):
        open_writer(tmp_path)
    assert content(tmp_path) == {str(tmp_path / file): b"mine"}
    assert len(list(tmp_path.iterdir())) == 1


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path, open_writer: Open) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="exists and is not a dataset"):
        open_writer(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_new_and_empty_folders_are_accepted(tmp_path: Path, open_writer: Open) -> None:
    open_writer(tmp_path)
    open_writer(tmp_path / "deep" / "down")
    assert (tmp_path / "deep" / "down" / "dataset.json").is_file()


def test_the_command_is_kept_until_something_is_committed(
    tmp_path: Path, identity: Identity, make_arrays: Make, facts: Any
) -> None:
    recorded = []
    for command, states in (("begun", 0), ("first", 2), ("nothing to do", 0), ("more", 3)):
        with contextlib.closing(DatasetWriter(tmp_path, identity, "a", {"seed": 1}, {}, command)) as writer:
            if states:
                writer.commit(make_arrays(states, seed=states), facts(states))
        recorded.append(read_writer(tmp_path / "writers" / "a.json").command)
    assert recorded == ["begun", "first", "first", "more"]


def test_datasets_begun_in_one_second_are_told_apart(
    tmp_path: Path, open_writer: Open, make_arrays: Make, facts: Any
) -> None:
    """A student of one knows nothing of the other."""
    for seed, name in enumerate(("one", "two")):
        arrays = make_arrays(6, seed)
        arrays.episode = np.repeat([0, 1], 3)
        open_writer(tmp_path / name).commit(arrays, facts(2))
    one, two = (Dataset(tmp_path / name) for name in ("one", "two"))
    assert one.manifest.created != two.manifest.created
    student = training(data=data_used(one, *split_by_episode(one, 0.5, 1)), val_fraction=0.5)
    assert len(held_out(one, student)) == 3
    assert held_out(two, student).tolist() == [*range(6)]


def test_manifest_is_never_rewritten(tmp_path: Path, open_writer: Open, make_arrays: Make, facts: Any) -> None:
    open_writer(tmp_path / "data").close()
    before = (tmp_path / "data" / "dataset.json").stat()
    open_writer(tmp_path / "data").commit(make_arrays(2), facts(1))
    after = (tmp_path / "data" / "dataset.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


# A child of this program is killed at its n-th call to the file system, for every n, and the next one goes on.
CRASH = """
import os, signal, sys
from pathlib import Path
import numpy as np
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.split import split_by_episode
from distill.dataset.used import data_used, held_out
from distill.records.dataset import Identity, Played
from distill.dataset.writer import DatasetWriter

folder = Path(sys.argv[1])
IDENTITY = Identity("pong", "0", "sb3", "h", "t", "projected", 1, "sphere", "logits", "int8")

def arrays(n):
    zeros = np.zeros(2, bool)
    return ShardArrays(np.full((5, 84, 84), n, np.uint8), np.array([3, 4]), np.full(2, n), np.arange(2, dtype=np.int32),
                       np.zeros(2, np.int16), np.zeros(2, np.float32), zeros, zeros, zeros,
                       np.zeros((2, 6), np.float32), None, np.zeros((2, 1, 6), np.float32),
                       np.full((2, 1, 4, 84, 84), n, np.int8),
                       np.ones((2, 1, 4, 84), np.float16), np.ones((2, 1), np.float32))

def collect(calls, shards):
    left = [calls]
    def deadly(real):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call
    for name in ("open", "fsync", "replace", "mkdir"):
        setattr(os, name, deadly(getattr(os, name)))
    writer = DatasetWriter(folder, IDENTITY, "a", {"seed": 1}, {"name": "t"})
    while len(writer.shards) < shards:
        n = len(writer.shards)
        writer.commit(arrays(n), Played(n + 1, 1.0))

def forked(calls, shards):
    pid = os.fork()
    if pid == 0:
        collect(calls, shards)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

kills = committed = 0
for calls in range(200):
    status = forked(calls, committed + 1)
    kills += status == -signal.SIGKILL
    found = len(list(folder.glob("shards/*/shard.json")))
    assert found >= committed, "a committed shard was lost"
    committed = found
    if committed:
        dataset = Dataset(folder, verify=True)
        assert len(dataset) == 2 * committed
        assert dataset.episode.tolist() == [n for n in range(committed) for _ in range(2)]
        assert (dataset.frames[dataset.pos, 0, 0] == dataset.episode % 256).all()
        assert (dataset.jacobian(np.arange(len(dataset))).codes[:, 0, 0, 0, 0] == dataset.episode).all()
    if status == 0:
        break
else:
    raise AssertionError("never finished")
print(kills, committed)
"""


def test_killed_at_every_call_to_the_file_system(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    kills, committed = map(int, done.stdout.split())
    assert kills > 25
    assert committed > 2, "no kill hit between the commit of a shard and its end"


def test_a_shards_name_is_on_disk_before_its_record_says_that_it_is_whole(
    tmp_path: Path, open_writer: Open, make_arrays: Make, facts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine loses what was never fsynced: the entry in ``shards/``, and with it the whole shard."""
    writer = open_writer(tmp_path / "data")
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(fd: int) -> None:
        calls.append(("fsync", Path(f"/proc/self/fd/{fd}").readlink().name))
        fsync(fd)

    def seen_replace(source: Path, target: Path) -> None:
        calls.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    shard = writer.commit(make_arrays(3), facts(1))
    whole = calls.index(("replace", "shard.json"))
    assert ("fsync", "shards") in calls[:whole]
    assert ("fsync", shard.name) in calls[whole:], "the record's own name"


# Eight processes open a new dataset at once, half of them with another identity.
RACE = """
import os, sys
from dataclasses import replace
from pathlib import Path
from distill.records.dataset import Identity, read_writer
from tests.fixtures.records import training
from distill.dataset.writer import DatasetWriter
from distill.errors import UserError

IDENTITY = Identity("pong", "0", "sb3", "h", "t", "projected", 1, "sphere", "logits", "int8")
for trial in range(6):
    folder = Path(sys.argv[1]) / str(trial)
    gate, open_gate = os.pipe()
    children = []
    for n in range(8):
        pid = os.fork()
        if pid == 0:
            os.read(gate, 1)
            try:
                DatasetWriter(folder, replace(IDENTITY, law=("sphere", "fisher")[n % 2]), f"w{n}", {}, {})
            except UserError as error:
                os._exit(1 if "was collected differently: law is" in str(error) else 2)
            os._exit(0)
        children.append(pid)
    os.write(open_gate, b"x" * 8)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert sorted([codes[::2], codes[1::2]]) == [[0] * 4, [1] * 4], codes
"""


def test_processes_that_create_a_dataset_at_once_agree(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
