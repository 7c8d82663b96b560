"""Collection by workers of a real Ray cluster on this machine: shares, refusals, kills of workers and of a node."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.collect.on_ray import quotas
from distill.collect.settings import CollectConfig
from distill.collect.summary import Summary
from distill.collect.verify import verify
from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.reader import Dataset
from distill.dataset.shards import committed_shards, read_record
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec
from distill.students.folder import save_student
from distill.system.files import at_home, sha256
from distill.system.ray_cluster import import_ray
from distill.system.settings import check_settings
from distill.task import Task
from teachers.load import load_teacher
from tests.fixtures.ray_cluster import Nodes
from tests.fixtures.store import new_cache

MakeConfig = Callable[..., Config]


def states_of(folder: Path) -> dict[str, int]:
    """Committed states by writer."""
    found = committed_shards(folder).items()
    return {writer: sum(read_record(shard).states for shard in shards) for writer, shards in found}


@pytest.mark.parametrize(
    ("states", "have", "ends"),
    [
        (10, [0, 0], [5, 5]),
        (10, [0, 0, 0], [4, 3, 3]),
        (10, [7, 0, 0], [7, 2, 1]),
        (12, [4, 2, 0], [4, 4, 4]),
        (9, [4, 3, 1], [4, 3, 2]),
        (11, [5, 5, 0], [5, 5, 1]),
        (100, [3], [100]),
    ],
)
def test_shares_are_even_and_none_falls(states: int, have: list[int], ends: list[int]) -> None:
    assert quotas(states, have) == ends


def test_shares_of_any_beginning() -> None:
    rng = random.Random(3)
    for _ in range(300):
        have = [rng.choice([0, rng.randrange(50)]) for _ in range(rng.randrange(1, 7))]
        states = sum(have) + rng.randrange(1, 60)
        ends = quotas(states, have)
        assert sum(ends) == states
        assert all(end >= old for end, old in zip(ends, have, strict=True))
        raised = [end for end, old in zip(ends, have, strict=True) if end > old]
        assert max(raised) <= min(ends) + 1, "no one gets more while another has less"


def test_settings_of_ray_alone_are_refused_without_it() -> None:
    with pytest.raises(UserError, match=r"--collect.num_workers is of --collect.workers=ray; add that, or leave it"):
        check_settings(Config(collect=CollectConfig(num_workers=2)))
    with pytest.raises(UserError, match=r"--collect.ray_address is of --collect.workers=ray"):
        check_settings(Config(collect=CollectConfig(ray_address="auto")))


def test_without_ray_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"^--collect.workers=ray needs Ray, .*: pip install -e \"\.\[ray\]\"$"):
        import_ray("--collect.workers=ray")


@pytest.fixture
def run(make_config: MakeConfig, nodes: Nodes, tmp_path: Path) -> Callable[..., Summary]:
    """``run(states=48)``: a collection by two workers into ``tmp_path / "data"``."""
    quick = {"num_envs": 2, "shard_states": 16, "workers": "ray", "num_workers": 2, "out": str(tmp_path / "data")}
    return lambda **settings: collect(make_config(collect={**quick, **settings}))


def test_two_workers_fill_one_dataset_and_three_go_on(
    run: Callable[..., Summary], make_config: MakeConfig, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    done = run(states=70)
    assert states_of(data) == {"teacher-0": 35, "teacher-1": 35}
    assert (done.states, done.added, done.writer) == (70, 70, "teacher-0 .. teacher-1")
    assert done.wall > 0
    assert done.cpu > 0
    assert done.bytes_per_state > 10_000
    assert all(done.seconds[part] > 0 for part in ("env", "actor", "label", "write"))

    before = {path: sha256(path) for path in data.glob("shards/*/*")}
    assert run(states=70).added == 0, "the same command has nothing to do"
    assert run(states=80, num_workers=1).added == 10
    assert states_of(data) == {"teacher-0": 45, "teacher-1": 35}, "all writers' states count"
    assert {path: sha256(path) for path in before} == before
    verdict = verify(data, load_teacher("pong", game="pong"))
    assert (verdict.states, verdict.shards) == (80, 7)

    alone = collect(make_config(collect={"out": str(tmp_path / "alone"), "states": 35, "num_envs": 2,
                                         "shard_states": 16, "writer": "teacher-1"}))  # fmt: skip
    one, other = Dataset(alone.folder), Dataset(data)
    mine = np.flatnonzero(other.writer == other.writers.index("teacher-1"))
    np.testing.assert_array_equal(one.stacks(np.arange(35)), other.stacks(mine), "as if it had been alone")
    np.testing.assert_array_equal(one.action, other.action[mine])


def test_a_store_is_told_of_what_workers_sent(
    run: Callable[..., Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_cache(tmp_path / "cache", monkeypatch)
    out = f"file://{tmp_path}/store/data"
    assert run(out=out, states=64).added == 64
    new_cache(tmp_path / "reader", monkeypatch)
    assert states_of(at_home(out)) == {"teacher-0": 32, "teacher-1": 32}


def test_what_a_worker_is_refused_is_said_here(
    run: Callable[..., Summary], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^--collect.num_cpus_per_worker=64, but no node of the Ray cluster has more"):
        run(states=20, num_cpus_per_worker=64.0)
    run(states=12, num_workers=3, num_cpus_per_worker=2.0, num_envs=1, shard_states=4)
    assert "has cores for 2 of 3 workers at once; the others follow" in capsys.readouterr().out
    assert [*states_of(tmp_path / "data").values()] == [4] * 3
    with pytest.raises(UserError, match=r"acted differently: behaviour is sampled, not greedy"):
        run(states=40, num_workers=1, behaviour="greedy")


def test_a_student_acts_on_workers(run: Callable[..., Summary], tmp_path: Path) -> None:
    task = Task("pong", "sb3", get_preset("sb3").hash, 6)
    save_student(tmp_path / "run" / "student", AtariCNN(NetSpec(((2, 8, 4),), ()), 6), task)
    done = run(states=20, num_workers=1, actor=str(tmp_path / "run"), beta=0.5)
    assert [*states_of(tmp_path / "data")] == [done.writer]
    assert done.writer.startswith("mix50-")
    assert verify(tmp_path / "data", load_teacher("pong", game="pong")).states == 20


class Killer(threading.Thread):
    """Kills workers with SIGKILL at random moments, and a node in the middle; the other node has room for all.

    Before every kill it notes what is committed.
    """

    def __init__(self, nodes: Nodes, data: Path, kills: int, seed: int, most: float) -> None:
        super().__init__()
        self._nodes, self._data, self._kills, self._most = nodes, data, kills, most
        self._rng = random.Random(seed)
        self.kills = 0
        self.committed: dict[Path, str] = {}

    def run(self) -> None:
        done = False
        while self.kills < self._kills and not done:
            done = self._wait_for_a_shard()
            time.sleep(self._rng.uniform(0, self._most))
            for record in self._data.glob("shards/*/shard.json"):
                self.committed.setdefault(record, sha256(record))
            self.kills += self._kill_node() if self.kills == self._kills // 2 else self._kill_worker()

    def _wait_for_a_shard(self) -> bool:
        """True where none comes any more."""
        end = time.monotonic() + 60
        while not any(path not in self.committed for path in self._data.glob("shards/*/shard.json")):
            if time.monotonic() > end:
                return True
            time.sleep(0.01)
        return False

    def _kill_worker(self) -> int:
        found = self._nodes.processes("ray::Worker")
        if not found:
            return 0
        os.kill(self._rng.choice(found), signal.SIGKILL)
        return 1

    def _kill_node(self) -> int:
        self._nodes.kill_one()
        return 1


def survive(nodes: Nodes, run: Callable[..., Summary], data: Path, kills: int, states: int) -> Killer:
    killer = Killer(nodes, data, kills, seed=5, most=0.4)
    killer.start()
    try:
        done = run(states=states, shard_states=8)
    finally:
        killer.join()
    assert (done.states, done.added) == (states, states)
    assert killer.kills == kills, "it was over too soon"
    assert killer.committed
    assert {record: sha256(record) for record in killer.committed} == killer.committed, "a committed shard changed"
    dataset = Dataset(data, verify=True)
    assert len(dataset) == states
    assert len(set(zip(dataset.writer, dataset.episode, dataset.t, strict=True))) == states, "a state came twice"
    assert verify(data, load_teacher("pong", game="pong")).states == states
    return killer


def test_killed_workers_and_a_killed_node_lose_and_double_nothing(
    nodes: Nodes, run: Callable[..., Summary], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survive(nodes, run, tmp_path / "data", kills=3, states=1600)
    assert capsys.readouterr().out.count("died; another goes on after") >= 3


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_killed(tmp_path: Path, start: Callable[..., Any]) -> None:
    pytest.importorskip("ray")
    data = tmp_path / "data"
    words = ["collect", "--device=cpu", f"--collect.out={data}", "--collect.workers=ray", "--collect.num_workers=2",
             "--collect.num_envs=2", "--collect.shard_states=16"]  # fmt: skip
    process = start(*words, "--collect.states=1000000")
    end = time.monotonic() + 90
    while len(list(data.glob("shards/*/shard.json"))) < 4:
        assert time.monotonic() < end, process.stderr.read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process = start(*words, "--collect.states=1")  # waits until the workers of the killed one are gone
    assert process.wait() == 0, process.stderr.read_text()
    states = sum(states_of(data).values()) + 40
    process = start(*words, f"--collect.states={states}")
    assert process.wait() == 0, process.stderr.read_text()
    assert verify(data, load_teacher("pong", game="pong")).states == states


@pytest.mark.slow
def test_fifty_kills(nodes: Nodes, run: Callable[..., Summary], tmp_path: Path) -> None:
    killer = survive(nodes, run, tmp_path / "data", kills=50, states=20_000)
    print(f"{killer.kills} kills, {len(killer.committed)} shards noted: none lost, changed or doubled")
