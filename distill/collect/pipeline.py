"""``distill collect``: play, label, commit; killed at any moment, the same command goes on."""

from __future__ import annotations

import time

from distill.collect.order import Order, make_order
from distill.collect.session import Session
from distill.collect.settings import CollectRun
from distill.collect.summary import Summary, bytes_of, scores, show
from distill.dataset.writer import DatasetWriter
from distill.system.device import pick_device
from distill.system.progress import Bar, console


def collect(config: CollectRun) -> Summary:
    """See ``distill.config.stages.collect``, which checks ``config`` first."""
    if config.collect.workers == "ray":
        from distill.collect import on_ray

        return on_ray.collect(make_order(config))
    pick_device(config.device)  # what cannot be had is refused before agents are loaded
    order = make_order(config)
    writer = order.open(order.writer)
    try:
        return _fill(order, writer)
    finally:
        writer.close()


def _fill(order: Order, writer: DatasetWriter) -> Summary:
    c = order.config.collect
    summary = Summary(writer.folder, writer.writer, writer.states, 0)
    if writer.states >= c.states:
        console.print(f"{writer.folder}: writer {writer.writer!r} already has {writer.states:,} states; nothing to do")
        return summary
    bar = Bar(f"collect {writer.writer}", "states", c.states, writer.states)
    with Session(order, writer) as session, bar:
        started, left = time.perf_counter(), c.states - writer.states
        while left > 0:
            size = min(c.shard_states, left)
            summary.games += session.record(size)
            left -= size
            rate = (c.states - left - summary.states) / (time.perf_counter() - started)
            bar.update(c.states - left, f"{rate:,.0f}/s, {scores(summary.games)}")
        session.settle()
        summary.wall = time.perf_counter() - started
        summary.seconds, summary.cpu = session.seconds, session.cpu
    summary.added = writer.states - summary.states
    summary.states = writer.states
    summary.bytes_per_state = bytes_of(writer.shards) / writer.states
    show(summary)
    return summary
