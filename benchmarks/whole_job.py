"""How long it takes from a teacher to a student of a given fidelity, against behaviour cloning with ``imitation``.

    make bench-peer   # once: imitation in an environment of its own, since it asks for older versions
    python benchmarks/whole_job.py --out runs/bench/whole_job.json

The same student (``mnih2013``) learns from the bundled Pong teacher, from as many states:

* theirs, ``imitation_peer.py``: ``imitation.data.rollout`` with ``PPO.load`` of the teacher's zip on ``make_atari_env``
  and ``VecFrameStack``, whole games side by side, then ``imitation.algorithms.bc.BC`` with its own defaults. The
  teacher acts either by its policy (``rollout``'s default) or by its best action (``deterministic_policy``); the
  second gives labels with less noise, and a student that knows no probabilities. Both are run.
* ours: ``distill collect`` and ``distill train`` with the demo's batches of 64; a tenth of the games or more is held
  out for its own validation, which is timed too. A third student has its teacher's first layer
  (``student.teacher_layers=1``).

Behaviour cloning passes eight times over the states and ours twelve times, over fewer of them and in larger batches:
two thirds of the steps.

All imports are done when a clock starts; loading the teacher and making the games are timed on both sides. Whenever
the optimizer has taken an eighth more steps, the student is scored on the same held-out states: every other one of
8,192 of games recorded by our collector with another seed. That is not timed. The figure is the time until the
held-out action error first falls to the level that behaviour cloning reaches at its end; medians over turns.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import ENVIRONMENT, Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

import numpy as np
import torch
from held_out import Point, Run, Watch

from distill.api import (
    AtariCNN,
    CollectConfig,
    Config,
    Dataset,
    ObjectiveConfig,
    TrainConfig,
    collect,
    train,
    validated,
)
from distill.networks.inherit import inherit
from distill.networks.nets import net_spec, to_unit
from teachers.load import find_teacher, load_teacher

HERE = Path(__file__).parent
PYTHON = Path(sys.prefix) / "imitation" / "bin" / "python"
TEACHER, ENV, STUDENT, ACTIONS = "pong-ppo", "pong", "mnih2013", 6
PEERS = {"sampled": "rollouts by the teacher's policy", "greedy": "rollouts by its best action"}
OURS = {"KL": (0.0, 0), "KL + Sobolev": (1.0, 0), "KL, teacher's first layer": (0.0, 1)}
"""Weight of the Sobolev term, and how many of the first layers are the teacher's."""
FIGURES = {"action_error": "action error", "kl": "KL"}


@dataclass(frozen=True)
class Sizes:
    """How much of everything one round does."""

    rounds: int
    games: int
    """Whole games of the peer's rollouts, all side by side."""
    epochs: int
    """Passes over the states, theirs."""
    our_epochs: int
    """Ours."""
    held_out: int
    """States recorded to score on; every other one is used."""


FULL = Sizes(rounds=2, games=8, epochs=8, our_epochs=12, held_out=8_192)
QUICK = Sizes(rounds=1, games=2, epochs=1, our_epochs=1, held_out=1_024)


def record_held_out(folder: Path, states: int) -> Path:
    """Held-out states and the teacher's logits, as ``Watch`` reads them."""
    settings = CollectConfig(out=str(folder / "held-out"), states=states, num_envs=4, jacobian="none")
    with contextlib.redirect_stdout(io.StringIO()):
        collect(validated(Config(env=ENV, teacher=TEACHER, seed=1_000, collect=settings)))
    dataset = Dataset(folder / "held-out")
    chosen = np.arange(0, len(dataset), 2)
    file = folder / "held-out.npz"
    np.savez(file, obs=dataset.stacks(chosen), logits=dataset.logits[chosen])
    return file


def theirs(actions: str, sizes: Sizes, seed: int, held_out: Path, device: str) -> Run:
    """Behaviour cloning by ``imitation``, in its own environment and with PyTorch's own process settings."""
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON} is missing; make it with `make bench-peer`")
    out = held_out.with_name("peer.json")
    settings = {
        "teacher": find_teacher(TEACHER).path, "held-out": held_out, "out": out, "actions": actions,
        "games": sizes.games, "epochs": sizes.epochs, "seed": seed, "device": device,
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in settings.items()]
    command = [str(PYTHON), "-W", "ignore", str(HERE / "imitation_peer.py"), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return Run.from_dict(json.loads(out.read_text()))


def ours(how: tuple[float, int], states: int, sizes: Sizes, seed: int, held_out: Path, device: str) -> Run:
    """``distill collect`` and ``distill train``."""
    weight, layers = how
    torch.manual_seed(seed)
    student = AtariCNN(net_spec(STUDENT), ACTIONS)
    watch = Watch(held_out, device)

    def logits(obs: torch.Tensor) -> torch.Tensor:
        return student(to_unit(obs))  # type: ignore[no-any-return]

    with tempfile.TemporaryDirectory(dir=held_out.parent) as name, contextlib.redirect_stdout(io.StringIO()):
        data, out = f"{name}/data", f"{name}/run"
        config = validated(
            Config(
                env=ENV, teacher=TEACHER, device=device, seed=seed,
                collect=CollectConfig(out=data, states=states, jacobian="projected" if weight else "none"),
                objective=ObjectiveConfig(jacobian_weight=weight),
                train=TrainConfig(data=data, out=out, epochs=sizes.our_epochs, batch_size=64),
            )
        )  # fmt: skip
        watch.start()
        collect(config)
        collected = watch.seconds()
        inherit(student, load_teacher(TEACHER).net, layers)  # as train does with a student that it builds
        with watch.following(logits):
            train(config, student)
            total = watch.seconds()
    return Run(states, collected, total, watch.points)


def reached(run: Run, figure: str, level: float) -> Point | None:
    """The first score that was that low; None if none was."""
    return next((point for point in run.points if getattr(point, figure) <= level), None)


def summary(runs: Sequence[Run], figure: str, levels: Sequence[float]) -> dict[str, Any]:
    """One side of a comparison, round by round."""
    first = [reached(run, figure, level) for run, level in zip(runs, levels, strict=True)]
    last = [run.points[-1] for run in runs]
    return {
        "states": [run.states for run in runs],
        "seconds to the level": [point and round(point.seconds, 2) for point in first],
        "steps to the level": [point and point.steps for point in first],
        "seconds of rollouts": [round(run.collect_seconds, 2) for run in runs],
        "seconds in all": [round(run.seconds, 2) for run in runs],
        "steps in all": [point.steps for point in last],
        "action error at the end": [round(point.action_error, 4) for point in last],
        "KL at the end": [round(point.kl, 4) for point in last],
    }


def compare(mine: str, peer: str, figure: str, goal: str, runs: dict[str, list[Run]]) -> Row:
    """One line of the table."""
    levels = [getattr(run.points[-1], figure) for run in runs[peer]]
    seconds = {}
    for name in (mine, peer):
        first = [reached(run, figure, level) for run, level in zip(runs[name], levels, strict=True)]
        seconds[name] = statistics.median(math.inf if point is None else point.seconds for point in first)
    details = {"level": levels, "ours": summary(runs[mine], figure, levels)}
    return Row(
        f"whole job, {STUDENT}, {mine}: time to equal held-out {FIGURES[figure]}",
        f"imitation's behaviour cloning, {PEERS[peer]}",
        seconds[peer] / seconds[mine], "x", goal, details | {"imitation": summary(runs[peer], figure, levels)},
    )  # fmt: skip


def measure(args: argparse.Namespace) -> list[Row]:
    sizes = QUICK if args.quick else FULL
    runs: dict[str, list[Run]] = {name: [] for name in (*PEERS, *OURS)}
    with tempfile.TemporaryDirectory() as folder:
        held_out = record_held_out(Path(folder), sizes.held_out)
        for seed in range(1, 1 + sizes.rounds):
            for name in PEERS:
                runs[name].append(theirs(name, sizes, seed, held_out, args.device))
            states = min(runs[name][-1].states for name in PEERS)
            for name, how in OURS.items():
                runs[name].append(ours(how, states, sizes, seed, held_out, args.device))
    return [
        compare("KL", "greedy", "action_error", ">= 3", runs),
        compare("KL", "sampled", "action_error", ">= 3", runs),
        compare("KL", "sampled", "kl", "", runs),
        compare("KL + Sobolev", "greedy", "action_error", "", runs),
        compare("KL + Sobolev", "sampled", "action_error", "", runs),
        compare("KL, teacher's first layer", "greedy", "action_error", "", runs),
        compare("KL, teacher's first layer", "sampled", "action_error", "", runs),
    ]


if __name__ == "__main__":
    main(measure, __doc__ or "")
