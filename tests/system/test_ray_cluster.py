"""Where no cluster answers, one sentence says so at once."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from distill.errors import UserError
from distill.pbt.settings import PbtConfig
from distill.sweep.settings import SweepConfig
from distill.system.ray_cluster import answer, cluster, refuse_deaf
from distill.system.ray_settings import RayCluster
from tests.fixtures.ray_cluster import Nodes


def test_an_address_where_nobody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            refuse_deaf(address)
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(UserError, match=rf"^nobody answers at {address} \(.*; start a Ray cluster"):
            refuse_deaf(address)


def test_names_that_ray_knows_pass() -> None:
    for address in ("auto", "local"):
        refuse_deaf(address)


def test_a_full_disk_of_a_worker_is_said_as_of_this_process(nodes: Nodes) -> None:
    import ray

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/shard")

    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: 'data/shard'$") as told:
        answer(ray, ray.remote(full).remote())
    assert (told.value.errno, told.value.filename) == (errno.ENOSPC, "data/shard")


def test_an_empty_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    asked: list[Any] = []
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", lambda address, **settings: asked.append(address))
    with cluster("--collect.workers=ray", None, 1):
        assert asked == ["local"]


@pytest.mark.parametrize("kind", [PbtConfig, SweepConfig])
def test_shares_that_ray_cannot_set_aside_are_refused(kind: type[RayCluster]) -> None:
    settings: dict[str, Any] = {} if kind is PbtConfig else {"workers": "ray"}
    for gpus in (0.0, 0.25, 1.0, 2.0):
        kind(num_gpus_per_worker=gpus, **settings).check()
    flag = f"--{kind.SECTION}.num_"
    with pytest.raises(UserError, match=rf"^{flag}gpus_per_worker must be a share of one GPU, or whole ones, got 1\.5"):
        kind(num_gpus_per_worker=1.5, **settings).check()
    with pytest.raises(UserError, match=rf"^{flag}cpus_per_worker must be at least 0\.0001, got 1e-05"):
        kind(num_cpus_per_worker=0.00001, **settings).check()
