"""Collection by processes on a Ray cluster: each is a writer of its own, of one dataset.

Workers write shards themselves; only what they did comes back. A worker that dies, or whose node does, is replaced:
the writer of its name goes on after its last committed shard.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.collect.order import Order
from distill.collect.ray_worker import Told, Worker, open_patiently
from distill.collect.summary import PARTS, Summary, bytes_of, scores, show
from distill.dataset.shards import committed_shards, read_record
from distill.errors import UserError, first_line
from distill.system.progress import Bar, console
from distill.system.ray_cluster import answer, workers

DEATHS = 10
"""A writer whose workers die so often without a shard in between is given up."""


def quotas(states: int, have: Sequence[int]) -> list[int]:
    """How many states each writer is to have in the end.

    As even as can be, none less than it has, and ``states`` together. They follow from what was committed alone, so a
    collection that goes on ends where an undisturbed one does.

    Args:
        states: of all these writers, more than they have.
        have: committed states of each.
    """
    full: set[int] = set()
    while True:
        rest = [number for number in range(len(have)) if number not in full]
        left = states - sum(have[number] for number in full)
        over = {number for number in rest if have[number] * len(rest) > left}
        if not over:
            break
        full |= over
    ends = list(have)
    for place, number in enumerate(rest):
        ends[number] = left // len(rest) + (place < left % len(rest))
    return ends


def collect(order: Order) -> Summary:
    """Record until the dataset has ``collect.states`` states, whoever wrote them.

    Raises:
        UserError: Ray or the cluster cannot be used, a worker was refused something, or one dies again and again.
    """
    c = order.config.collect
    order = dataclasses.replace(order, folder=order.folder.absolute())
    have = {name: _committed(order, name) for name in [f"{order.writer}-{n}" for n in range(c.num_workers)]}
    total = sum(read_record(shard).states for shard in _shards(order.folder))
    summary = Summary(order.folder, " .. ".join(dict.fromkeys((next(iter(have)), [*have][-1]))), total, 0)
    if total >= c.states:
        console.print(f"{order.folder}: already has {total:,} states; nothing to do")
        return summary
    ends = quotas(c.states - total + sum(have.values()), [*have.values()])
    members = [Member(name, end, have[name]) for name, end in zip(have, ends, strict=True)]
    with workers("--collect.workers=ray", c) as ray:
        room = int(ray.cluster_resources().get("CPU", 0) // c.num_cpus_per_worker)
        if room < c.num_workers:
            console.print(f"the Ray cluster has cores for {room} of {c.num_workers} workers at once; the others follow")
        with Bar(f"collect on {c.num_workers} workers", "states", c.states, total) as bar:
            Drive(ray, order, members, bar).run(summary)
    shards = [shard for name in have for shard in _shards(order.folder, [name])]
    summary.states = sum(read_record(shard).states for shard in _shards(order.folder))
    summary.added = summary.states - total
    summary.bytes_per_state = bytes_of(shards) / sum(read_record(shard).states for shard in shards)
    summary.seconds = {part: sum(one.seconds.get(part, 0.0) for one in members) / len(members) for part in PARTS}
    summary.cpu = sum(one.cpu for one in members)
    show(summary)
    return summary


def _committed(order: Order, name: str) -> int:
    """States of a writer; whatever it would be refused, it is refused here, before Ray is started."""
    writer = open_patiently(order, name)
    writer.close()
    return writer.states


def _shards(folder: Path, writers: Iterable[str] | None = None) -> list[Path]:
    found = committed_shards(folder)
    return [shard for name in (found if writers is None else writers) for shard in found.get(name, [])]


@dataclass
class Member:
    """A writer, whoever works for it at the moment."""

    name: str
    end: int
    """States that it is to have."""
    states: int
    """States that are committed."""
    asked: int = 0
    """States that its worker has committed, plays or writes."""
    deaths: int = 0
    """Workers that died since its last shard."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of its worker."""
    cpu: float = 0.0
    """Processor seconds of its worker."""
    worker: Any = None
    """Handle of the actor."""


class Drive:
    """Keeps every writer's worker busy.

    Args:
        ray: the module, connected.
        order: what is collected; sent to the cluster once.
        members: the writers.
        bar: shows all of them together.
    """

    def __init__(self, ray: Any, order: Order, members: Sequence[Member], bar: Bar) -> None:
        self._ray, self._members, self._bar = ray, members, bar
        c = order.config.collect
        self._shard = c.shard_states
        self._order = ray.put(order)
        self._mark = hashlib.sha256((order.folder / "dataset.json").read_bytes()).hexdigest()
        spread = {"num_cpus": c.num_cpus_per_worker, "num_gpus": c.num_gpus_per_worker, "scheduling_strategy": "SPREAD"}
        self._remote = ray.remote(**spread)(Worker)
        self._waiting: dict[Any, Member] = {}

    def run(self, summary: Summary) -> None:
        """Until all writers have their states.

        Raises:
            UserError: what a worker was refused, or one that dies again and again.
        """
        others = summary.states - sum(member.states for member in self._members)
        started: float | None = None
        try:
            for member in self._members:
                self._hire(member)
            while self._waiting:
                (done,), _ = self._ray.wait([*self._waiting], num_returns=1)
                member = self._waiting.pop(done)
                told = self._answer(member, done)
                if told is None:
                    continue
                started = started or time.perf_counter()
                summary.games += told.games
                member.deaths = 0 if told.states > member.states else member.deaths
                member.states, member.seconds, member.cpu = told.states, told.seconds, told.cpu
                self._go_on(member)
                states = others + sum(one.states for one in self._members)
                rate = (states - summary.states) / max(time.perf_counter() - started, 1e-9)
                self._bar.update(states, f"{rate:,.0f}/s, {scores(summary.games)}")
        finally:
            for member in self._members:
                self._dismiss(member)
        summary.wall = time.perf_counter() - (started or 0.0)

    def _hire(self, member: Member) -> None:
        """A new worker for a writer; it first says what is committed."""
        if member.states >= member.end:
            return
        member.worker = self._remote.remote(self._order, member.name, self._mark)
        member.asked = 0
        self._waiting[member.worker.open.remote()] = member

    def _dismiss(self, member: Member) -> None:
        if member.worker is not None:
            self._ray.kill(member.worker)
            member.worker = None

    def _go_on(self, member: Member) -> None:
        """The next shard, or the end of the last one."""
        member.asked = max(member.asked, member.states)
        left = member.end - member.asked
        if left > 0:
            size = min(self._shard, left)
            member.asked += size
            self._waiting[member.worker.record.remote(size)] = member
        elif member.states < member.end:
            self._waiting[member.worker.settle.remote()] = member
        else:
            self._dismiss(member)  # whoever waits for its core may have it

    def _answer(self, member: Member, done: Any) -> Told | None:
        """What a worker says; None where it died, and another one was hired."""
        errors = self._ray.exceptions
        try:
            told: Told = answer(self._ray, done)
            return told
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            member.deaths += 1
            if member.deaths >= DEATHS:
                raise UserError(
                    f"the worker of writer {member.name!r} died {DEATHS} times without a shard in between "
                    f"({first_line(error)}); see Ray's logs, and give it more memory or a smaller --collect.num_envs"
                ) from error
            console.print(
                f"the worker of writer {member.name!r} died; another goes on after its {member.states:,} states"
            )
            self._hire(member)
            return None
