"""Ray Tune: who trains next, who copies whom, who is stopped. It is imported when it is asked for."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.dataset.reader import Dataset
from distill.errors import DivergedError, UserError
from distill.pbt.rounds import Job, Round
from distill.pbt.settings import PbtConfig
from distill.system.files import read_json, write_json
from distill.system.plugins import load_plugins
from distill.system.ray_cluster import enter, import_ray
from distill.system.runtime import tune_process
from distill.system.streams import seed_globals

WORST = 1e30
"""Score of a round that diverged: whoever has it copies another."""
NAME, PLACE = "tune", "place.json"
FACTORS = (1.2, 0.8)
FAILURES = 10
"""Of one member's workers; each goes on at its last round."""
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Tune's own loggers and its handler of Ctrl-C are off."""
Watch = Callable[[Mapping[str, Any]], object]
"""Told what a round came to."""
_WATCHING: list[Watch] = []


class Ended(BaseException):
    """Ends a search, with a sentence. No ``Exception``: Tune takes one in a callback for a failure of the member."""


@dataclass(frozen=True)
class Search:
    """How a population is searched."""

    p: PbtConfig
    rounds: int
    """Of each member."""
    seed: int
    folder: Path
    """Tune works in a folder below it, which is removed."""
    first: Sequence[Mapping[str, float]] = ()
    """Settings of the first members; the others' are drawn."""


def search(trainable: type, how: Search, watch: Watch) -> None:
    """Run a population from its beginning; Ray is connected.

    A search that was stopped begins anew. Who copies whom depends on seed and scores alone, so that rounds come again
    in their order, and a trainable that knows its rounds need not train them again. (Tune can restore a search, but
    then a population whose members wait for each other waits for ever.)

    Args:
        trainable: a ``tune.Trainable`` that reports ``val_kl`` after each round.
        how: see there.
        watch: told of every round.

    Raises:
        UserError: a member's training was refused something, or failed again and again.
    """
    import_ray("distill pbt")
    with _settled(how.seed):
        from ray import tune

        _WATCHING[:] = [watch]
        wanted = {"cpu": how.p.num_cpus_per_worker, "gpu": how.p.num_gpus_per_worker}
        scratch = how.folder / NAME
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            _tuner(tune, tune.with_resources(trainable, wanted), how).fit()
        except Ended as error:
            raise UserError(str(error)) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def notify(result: Mapping[str, Any]) -> None:
    """A round has ended. Tune keeps its callbacks in a file, so they hold nothing themselves.

    Raises:
        Ended: a member was refused something. (Were it alone to end, those who wait for it would wait for ever.)
    """
    if "refused" in result:
        raise Ended(str(result["refused"]))
    for watch in _WATCHING:
        watch(result)


def _tuner(tune: Any, trained: Any, how: Search) -> Any:
    class Told(tune.Callback):  # type: ignore[misc]
        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            notify(result)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            raise Ended(
                f"{how.folder}: a member's worker failed {FAILURES} times; see Ray's logs, and give it more memory"
            )

    from ray.tune.search.basic_variant import BasicVariantGenerator

    p = how.p
    space = {name: tune.loguniform(*ends) for name, ends in p.space.items()}
    drawn = BasicVariantGenerator(points_to_evaluate=[dict(one) for one in how.first], random_state=how.seed)
    return tune.Tuner(
        trained,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="val_kl",
            mode="min",
            scheduler=_scheduler(how, space),
            search_alg=drawn,
            num_samples=p.members,
            reuse_actors=True,
            trial_dirname_creator=str,
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(how.folder.absolute()),
            stop={"training_iteration": how.rounds},
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            failure_config=tune.FailureConfig(max_failures=FAILURES),
            callbacks=[Told()],
            verbose=0,
        ),
    )


def _scheduler(how: Search, space: dict[str, Any]) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining

    p = how.p
    if p.scheduler == "random":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    if p.scheduler == "asha":
        return ASHAScheduler(max_t=how.rounds)
    ends = dict(p.space)

    def within(settings: dict[str, float]) -> dict[str, float]:
        return {name: min(max(value, ends[name][0]), ends[name][1]) for name, value in settings.items()}

    base: Any = PopulationBasedTraining

    class Seeded(base):  # type: ignore[misc]
        """Whatever else draws from Python's generator, and whoever is the last to end a round: the same decisions."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
            seed_globals("pbt", how.seed, result["training_iteration"])
            return super().on_trial_result(tune_controller, trial, result)

    return Seeded(
        time_attr="training_iteration",
        perturbation_interval=1,
        burn_in_period=math.ceil(p.burn_in_period / p.perturbation_interval),
        hyperparam_mutations=space,
        quantile_fraction=p.quantile_fraction,
        resample_probability=p.resample_probability,
        perturbation_factors=FACTORS,
        custom_explore_fn=within,
        log_config=False,
        synch=p.synch,
    )


@contextlib.contextmanager
def _settled(seed: int) -> Iterator[None]:
    """Tune draws from Python's and NumPy's own generators, and talks; both are put back behind it."""
    before, state, legacy = dict(os.environ), random.getstate(), np.random.get_state()
    os.environ.update(QUIET)
    seed_globals("pbt", seed)
    loud = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray.air")]
    levels = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)
        random.setstate(state)
        np.random.set_state(legacy)
        for name in QUIET:
            os.environ.pop(name, None) if name not in before else os.environ.update({name: before[name]})


def make_trainable(job: Job) -> type:
    """A member of the population, as Tune's class."""
    from ray import tune

    base: Any = tune.Trainable

    class Member(base):  # type: ignore[misc]
        """Plays rounds; its place is the last one's name, so that to copy a member is to begin where it stands."""

        def setup(self, config: dict[str, Any]) -> None:
            tune_process()
            load_plugins()
            self._dataset: Dataset | None = None
            self._last = ("", 0)

        def step(self) -> dict[str, Any]:
            parent, number = self._last
            settings = {name: float(value) for name, value in self.config.items()}
            enter(job.where)  # Tune changes the folder whenever it gives an actor to another member
            try:
                found = job.play(settings, parent, number + 1, self._opened)
            except DivergedError:
                return {"val_kl": WORST, "diverged": True}
            except UserError as error:
                return {"val_kl": WORST, "refused": str(error)}
            except OSError as error:  # such as a full disk, which no other worker would find empty
                return {"val_kl": WORST, "refused": f"{error}; see to that, and run the command again"}
            self._last = (found.run, found.number)
            return told(found)

        def _opened(self) -> Dataset:
            self._dataset = self._dataset or job.open()
            return self._dataset

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            write_json(Path(checkpoint_dir) / PLACE, {"run": self._last[0], "number": self._last[1]})

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            place = read_json(Path(checkpoint_dir) / PLACE, "place of a member", "run", "number")
            self._last = (place["run"], place["number"])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._last = ("", 0)
            return True

    return Member


def told(found: Round) -> dict[str, Any]:
    """A round as Tune's result."""
    return {name: getattr(found, name) for name in ("run", "parent", "number", "step", "val_kl")}
