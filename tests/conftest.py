"""Shared by all tests: one thread, a small real collection, and the command line in a process that can be killed."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch

from distill.config.config import Config
from distill.config.stages import collect
from distill.config.validate import validated
from distill.system.settings import Section

pytest_plugins = [f"tests.fixtures.{name}" for name in ("nets", "quick", "ray_cluster", "store")]
KINDS = get_type_hints(Config).items()
SECTIONS = {name: kind for name, kind in KINDS if isinstance(kind, type) and issubclass(kind, Section)}
ROOT = Path(__file__).parents[1]
PRETRAINED = ROOT / "teachers" / "pretrained"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """``make_config(env="pong", collect={"states": 10}, ...)``: a validated config with a teacher."""

    def make(**fields: Any) -> Config:
        built = {name: SECTIONS[name](**value) if name in SECTIONS else value for name, value in fields.items()}
        config = validated(Config(**{"device": "cpu", **built}))
        return dataclasses.replace(config, teacher=config.teacher or config.env)

    return make


@pytest.fixture(scope="session")
def pong_data(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 states of 4 Pong games in 5 shards, one projection each. Read only: damage a copy."""
    out = tmp_path_factory.mktemp("pong") / "data"
    collect(make_config(collect={"out": str(out), "states": 600, "num_envs": 4, "shard_states": 128}))
    return out


@pytest.fixture(scope="session")
def pong_quarter(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The states of ``pong_data``, a quarter of them with derivatives. Read only, too."""
    out = tmp_path_factory.mktemp("quarter") / "data"
    some = {"out": str(out), "states": 600, "num_envs": 4, "shard_states": 128, "jacobian_share": 0.25}
    collect(make_config(collect=some))
    return out


@pytest.fixture
def pong_copy(pong_data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pong_data, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))


@pytest.fixture(scope="session")
def other_pong_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled Pong teacher with one bias changed: the same network, another agent."""
    path = tmp_path_factory.mktemp("teacher") / "other-pong.zip"
    with zipfile.ZipFile(PRETRAINED / "pong-ppo.zip") as archive, zipfile.ZipFile(path, "w") as copy:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
        weights["action_net.bias"][0] += 0.5
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        copy.writestr("policy.pth", buffer.getvalue())
    return path


# Importing PyTorch takes seconds, so one process imports and forks a child for every command. It never
# starts a thread of its own before a fork, and children run the real command line.
LAUNCHER = """
import json, os, resource, sys, traceback
import torch
import distill.collect.pipeline, distill.cli.export, distill.collect.verify, jsonargparse
from distill.cli.command import main

torch.set_num_threads(1)
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for stream, path in ((0, os.devnull), (1, order["stdout"]), (2, order["stderr"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), stream)
        if order["file_size"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"], order["file_size"]))
            sys.dont_write_bytecode = True  # it would be cut off, and broken for all who import it later
        os.chdir(order["cwd"])
        os.environ.update(order["env"])
        try:
            status = main(order["words"])
        except BaseException:
            traceback.print_exc()
            status = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass
class Process:
    """A running command; wait for it before starting the next."""

    pid: int
    launcher: subprocess.Popen[str]
    stderr: Path

    def wait(self) -> int:
        """Exit status, negative for a signal."""
        assert self.launcher.stdout is not None
        return int(self.launcher.stdout.readline())


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """``start("collect", "--env", "pong", file_size=None)``: a ``distill`` command in a process of its own."""
    folder = tmp_path_factory.mktemp("launcher")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert launcher.stdin is not None
    assert launcher.stdout is not None

    def run(
        *words: str, file_size: int | None = None, cwd: Path = folder, env: Mapping[str, str] | None = None
    ) -> Process:
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        order = {"words": list(words), "file_size": file_size, "cwd": str(cwd), "env": dict(env or {})}
        order |= {name: str(folder / name) for name in ("stdout", "stderr")}
        launcher.stdin.write(json.dumps(order) + "\n")
        launcher.stdin.flush()
        return Process(int(launcher.stdout.readline()), launcher, folder / "stderr")

    yield run
    launcher.stdin.close()
    launcher.wait(timeout=30)
    launcher.stdout.close()
    assert launcher.stderr is not None
    launcher.stderr.close()
