"""Settings of what can run on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from distill.system.ranges import POSITIVE, ZERO_OR_MORE, Range
from distill.system.settings import Section, require

FINEST = 0.0001
"""The least share of a core or GPU that Ray knows."""


@dataclass(frozen=True)
class RayCluster(Section):
    """Processes on a Ray cluster."""

    num_workers: int = 1
    """Processes at work at once on Ray."""
    num_cpus_per_worker: float = 1.0
    """Cores that Ray sets aside for each."""
    num_gpus_per_worker: float = 0.0
    """GPUs, or shares of one, that Ray sets aside for each; without, it computes on its cores."""
    ray_address: str | None = None
    """Ray cluster: host:port, ray://host:10001 or auto; default: RAY_ADDRESS, or one on this machine for the time."""

    WORKERS: ClassVar[Mapping[str, Range]] = {
        "num_workers": POSITIVE,
        "num_cpus_per_worker": POSITIVE,
        "num_gpus_per_worker": ZERO_OR_MORE,
    }
    """Part of RANGES."""
    SECTION: ClassVar[str]
    """Its name on the command line."""

    def check(self) -> None:
        """Refuse shares that Ray cannot set aside."""
        super().check()
        flag, gpus = f"--{self.SECTION}.num_", self.num_gpus_per_worker
        require(gpus <= 1 or gpus % 1 == 0, f"{flag}gpus_per_worker", gpus, "a share of one GPU, or whole ones")
        for name, asked in (("cpus", self.num_cpus_per_worker), ("gpus", gpus)):
            require(asked == 0 or asked >= FINEST, f"{flag}{name}_per_worker", asked, f"at least {FINEST}")


@dataclass(frozen=True)
class RayWorkers(RayCluster):
    """Where the work is done: in this process, or by processes on a Ray cluster."""

    workers: Literal["local", "ray"] = "local"
    """Who works: this process, or processes on a Ray cluster (docs/scale.md)."""

    NEEDS: ClassVar[Mapping[str, str]] = dict.fromkeys((*RayCluster.WORKERS, "ray_address"), "workers=ray")
