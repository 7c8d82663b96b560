"""Ray, where somebody asked for it: a cluster to connect to, or one on this machine for as long as a stage lasts."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.errors import UserError, first_line
from distill.system.plugins import VARIABLE
from distill.system.ray_settings import RayCluster

STORE = 256 * 2**20
"""Bytes of shared memory of a cluster of our own: agents and settings go through it, recorded states do not."""
ANSWER_S = 10.0
CARRIED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", VARIABLE)
"""Environment variables that workers on a cluster of others are given, too."""


def import_ray(flag: str) -> Any:
    """The module ``ray``.

    Args:
        flag: the setting that asked for it, for the error.

    Raises:
        UserError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(f'{flag} needs Ray, which is not installed: pip install -e ".[ray]"') from error
    return ray


@contextlib.contextmanager
def cluster(flag: str, address: str | None, cpus: float) -> Iterator[Any]:
    """Yield the module ``ray``, connected; what was connected before stays so.

    Args:
        flag: the setting that asked for it, for errors.
        address: of a cluster; None for RAY_ADDRESS's, or one on this machine that ends with the context.
        cpus: cores that one on this machine sets aside, whether it has them or not.

    Raises:
        UserError: Ray is not installed, or nobody answers.
    """
    ray = import_ray(flag)
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None:
        refuse_deaf(address)
    with own_signals():
        try:
            if address is None:
                _start(ray, cpus)
            else:
                given = {name: os.environ[name] for name in CARRIED if name in os.environ}
                quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
                ray.init(address, runtime_env={"env_vars": given}, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"no Ray cluster can be used at {address or 'this machine'} ({first_line(error)}); start one by "
                "`ray start --head`, with the same versions of Ray and Python, or give another address; where it asks "
                "for a token, set RAY_AUTH_MODE=token"
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def refuse_deaf(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would try for minutes.

    Raises:
        UserError: naming it.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():  # auto, local, or a name that Ray knows
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"nobody answers at {address} ({first_line(error)}); start a Ray cluster there by `ray start --head`, or "
            "give another address"
        ) from error


def _start(ray: Any, cpus: float) -> None:
    """A cluster on this machine, which talks to no one outside it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        "local",
        num_cpus=math.ceil(cpus),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=STORE,
    )


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Ray sets a handler of SIGTERM when it connects; ours stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def refuse_too_small(ray: Any, flag: str, cpus: float, gpus: float = 0.0) -> None:
    """Refuse a worker that no node has room for: Ray would wait for one for ever.

    Raises:
        UserError: naming the setting.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, asked in (("CPU", cpus), ("GPU", gpus)):
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if asked > most:
            raise UserError(
                f"{flag}={asked:g}, but no node of the Ray cluster has more than {most:g} {name}s; lower it"
            )


@contextlib.contextmanager
def workers(flag: str, settings: RayCluster) -> Iterator[Any]:
    """``cluster``, with a node for each of the workers that the settings ask for.

    Raises:
        UserError: as ``cluster``, or no node has room for one.
    """
    with cluster(flag, settings.ray_address, settings.num_workers * settings.num_cpus_per_worker) as ray:
        above = f"--{settings.SECTION}"
        refuse_too_small(ray, f"{above}.num_cpus_per_worker", settings.num_cpus_per_worker)
        refuse_too_small(ray, f"{above}.num_gpus_per_worker", 0, settings.num_gpus_per_worker)
        yield ray


def answer(ray: Any, done: Any) -> Any:
    """``ray.get``, which raises what the command line has a sentence for as it was raised in the worker."""
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if isinstance(error.cause, OSError):  # a full disk, a file that may not be read
            raise error.cause from error
        raise


def enter(folder: str) -> None:
    """In a worker: go to the working folder of whoever asked, since paths are relative to it.

    Raises:
        UserError: this node does not see it.
    """
    if not Path(folder).is_dir():
        raise UserError(
            f"node {platform.node()} of the Ray cluster does not see {folder}; start the command in a folder that all "
            "nodes see, such as one on a network file system"
        )
    os.chdir(folder)
