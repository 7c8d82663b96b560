"""Several processes that train one student together, as ``torchrun`` starts them.

Each takes its share of every batch and all take the same step: what comes out is what one process would get from
the whole batch (the semantics of DistributedDataParallel, for gradients that autograd did not make).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from distill.errors import UserError
from distill.losses.sobolev import Losses, states_of_share
from distill.system.runtime import processes

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """A process's place in its team; alone where nobody started several."""

    rank: int = 0
    """Number of this process, from 0."""
    world: int = 1
    """Processes."""

    @staticmethod
    def join() -> Team:
        """The team that ``torchrun``'s environment names (RANK, ``processes``).

        Raises:
            UserError: it names several processes, and not who they are.
        """
        if processes() == 1:
            return Team()
        if not dist.is_initialized():
            missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
            if missing:
                several = f"WORLD_SIZE={processes()} in the environment, but no {missing[0]}"
                raise UserError(f"{several}; start by torchrun, or unset WORLD_SIZE")
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(Team.leave)
        return Team(dist.get_rank(), dist.get_world_size())

    @staticmethod
    def leave() -> None:
        """Close what ``join`` opened: before Python's own end, where threads of it may still run."""
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def main(self) -> bool:
        """The one that validates, prints and writes."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """``cuda`` without a number is this process's own GPU (LOCAL_RANK)."""
        if self.world == 1 or device.type != "cuda" or device.index is not None:
            return device
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(own)
        return own

    def share(self, batch_size: int, jacobian_share: float | None) -> slice:
        """Which rows of every batch are this process's.

        Args:
            batch_size: states of all processes.
            jacobian_share: share of them, the first ones, that carry derivatives; None where none does.

        Raises:
            UserError: the batch cannot be shared equally, so that the mean of means would not be the mean.
        """
        if batch_size % self.world:
            raise UserError(
                f"a batch of {batch_size} states cannot be shared by {self.world} processes equally; use a multiple"
            )
        carrying = 0 if jacobian_share is None else states_of_share(jacobian_share, batch_size)
        if carrying % self.world:
            raise UserError(
                f"--objective.jacobian_share={jacobian_share} gives {carrying} of {batch_size} states "
                f"derivatives, which {self.world} processes cannot share equally; choose another share"
            )
        return slice(self.rank, None, self.world)

    def refuse_other(self, digest: str | None) -> None:
        """Refuse data that is not the main process's: machines have copies of their own.

        Raises:
            UserError: it is another.
        """
        if self.agree(digest) != digest:
            raise UserError(
                f"process {self.rank} has other data than process 0; let --train.data be the same on all machines"
            )

    def agree(self, value: T) -> T:
        """The main process's value, everywhere."""
        if self.world == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder)
        return holder[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """True everywhere where it is true anywhere."""
        if self.world == 1:
            return flag
        count = torch.tensor([int(flag)])
        dist.all_reduce(count)
        return bool(count)

    def average(self, parameters: Iterable[nn.Parameter], losses: Losses) -> Losses:
        """Replace gradients by their mean over all processes, in one message; returns the mean losses."""
        if self.world == 1:
            return losses
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        scalars = list(losses.values())
        flat = torch.cat([part.flatten().float() for part in (*gradients, *scalars)])
        dist.all_reduce(flat)
        flat /= self.world
        parts = torch.split(flat, [part.numel() for part in (*gradients, *scalars)])
        for gradient, mean in zip(gradients, parts, strict=False):
            gradient.copy_(mean.view_as(gradient))
        total, *terms = (part.squeeze(0) for part in parts[-len(scalars) :])
        return Losses(total, dict(zip(list(losses)[1:], terms, strict=True)), losses.logits)


ALONE = Team()
"""What most trainings run in."""
