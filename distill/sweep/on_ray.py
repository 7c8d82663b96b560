"""The trainings of a sweep on a Ray cluster, several at once; rows are still made here, one after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from distill.errors import UserError, first_line
from distill.sweep.settings import SweepConfig
from distill.system.plugins import load_plugins
from distill.system.progress import console
from distill.system.ray_cluster import answer, enter, workers
from distill.system.runtime import tune_process
from distill.train.settings import TrainRun

DEATHS = 10
"""A training whose workers die so often is given up."""


def train_here(config: TrainRun, folder: str) -> Path:
    """``distill train`` in a worker.

    Args:
        config: its settings; its run goes on from its last checkpoint.
        folder: the working folder of whoever asked; paths are relative to it.

    Raises:
        UserError: as ``train``, or this node does not see the folder.
    """
    tune_process()
    load_plugins()
    enter(folder)
    from distill.train.loop import train

    return train(config)


class Trainings:
    """Trains while in context; called with a training's settings it waits for that one, and returns its run folder.

    Each training is a task of its own. One whose worker dies, or whose node does, begins again where its last
    checkpoint is.

    Args:
        sweep: which cluster, and how many at once.
        configs: all trainings, the first to begin first.
    """

    def __init__(self, sweep: SweepConfig, configs: Sequence[TrainRun]) -> None:
        self._sweep, self._configs = sweep, configs
        self._found: dict[str, Future[Path]] = {}
        self._running: set[Any] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        s = self._sweep
        with contextlib.ExitStack() as stack:
            self._ray = stack.enter_context(workers("--sweep.workers=ray", s))
            wanted = {"num_cpus": s.num_cpus_per_worker, "num_gpus": s.num_gpus_per_worker, "max_retries": 0}
            self._task = self._ray.remote(**wanted)(train_here)
            pool = ThreadPoolExecutor(s.num_workers)  # a thread waits for each training
            stack.callback(self._stop, pool)
            self._found = {config.train.out: pool.submit(self._train, config) for config in self._configs}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def __call__(self, config: TrainRun) -> Path:
        """The finished run folder.

        Raises:
            UserError: what the training raised, or its workers died again and again.
        """
        return self._found[config.train.out].result()

    def _stop(self, pool: ThreadPoolExecutor) -> None:
        pool.shutdown(wait=False, cancel_futures=True)
        for task in [*self._running]:
            self._ray.cancel(task, force=True)

    def _train(self, config: TrainRun) -> Path:
        errors = self._ray.exceptions
        for _ in range(DEATHS):
            task = self._task.remote(config, os.getcwd())
            self._running.add(task)
            try:
                found: Path = answer(self._ray, task)
                return found
            except (errors.RayTaskError, errors.TaskCancelledError):
                raise
            except errors.RayError as error:
                last = error
                console.print(f"{config.train.out}: its worker died; another one goes on")
            finally:
                self._running.discard(task)
        why = f"{config.train.out}: its worker died {DEATHS} times ({first_line(last)})"
        raise UserError(f"{why}; see Ray's logs, and give it more memory") from last
