"""Proximal policy distillation: ``distill finetune`` against a checkout of ``sb3_distill`` (Spigler 2024).

    git clone https://github.com/spiglerg/sb3_distill.git CHECKOUT
    python benchmarks/proximal.py --checkout CHECKOUT --env pong --states 1000000 --seeds 1,2,3

Same teacher, student network, environment steps, lanes, seeds, PPO settings and weight of the divergence; both learn
from a fresh network. Theirs is ``ProximalPolicyDistillation`` on ``make_atari_env`` in ``SubprocVecEnv``; ours has the
form of its divergence, too (``clipped_kl``). The settings are RL Baselines3 Zoo's (``zoo``), the same with a higher
rate and a heavier teacher, by which students play after few states (``short``), or those of its own example
(``example``: rewards divided by a running scale there and cut to their sign here, constant rates there and falling
ones here).

Seconds, of the clock and of processors, are those of making the games, loading the teacher and learning; of ours,
checkpoints, curve and the last comparison with the teacher besides. Then each student plays the same whole games,
protocol ``zoo``. A row for each is added to <out>/rows.csv; those that are there, of the same teacher (name and
fingerprint), network, settings, lanes, steps, games, device and seed, are not run again. One that was cut off begins
anew, so that its time is that of the whole.
Nothing of the checkout is copied.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import ENVIRONMENT  # first: it sets the process up, before PyTorch is imported

# isort: split

import torch

from distill.agents.episodes import Match, play
from distill.envs.games import env_id, game_info
from distill.envs.presets import get_preset
from distill.envs.protocols import get_protocol
from distill.figures.statistics import summarise
from distill.networks.nets import AtariCNN, net_spec
from distill.students.folder import load_student
from distill.system.device import pick_device
from distill.system.files import write_bytes
from distill.system.provenance import versions
from teachers.load import find_teacher, load_teacher

HERE = Path(__file__).parent
COMMON: dict[str, Any] = {"n_epochs": 4, "ent_coef": 0.01, "vf_coef": 0.5, "gae_lambda": 0.95, "max_grad_norm": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {
    "zoo": COMMON
    | {"n_steps": 128, "batch_size": 256, "learning_rate": 2.5e-4, "clip_range": 0.1, "gamma": 0.99, "weight": 1.0},
    "short": COMMON
    | {"n_steps": 128, "batch_size": 64, "learning_rate": 1e-3, "clip_range": 0.2, "gamma": 0.99, "weight": 5.0},
    "example": COMMON
    | {"n_steps": 256, "batch_size": 512, "learning_rate": 3e-4, "clip_range": 0.2, "gamma": 0.995, "weight": 2.0},
}
PROGRAM = """
import sys, time
from distill.system.runtime import tune_process
tune_process()
import torch, distill.finetune.loop
from distill.cli.command import main
began, cpu = time.perf_counter(), time.process_time()
status = main(sys.argv[1:])
print(time.perf_counter() - began, time.process_time() - cpu)
sys.exit(status)
"""
"""What ``distill`` does, with a clock that starts after the imports, as the peer's does."""
CELL = ("env", "teacher", "student", "settings", "lanes", "asked", "games", "device", "seed", "who")
"""What makes a row another one; ``asked``: environment steps, of which whole rollouts are played."""
LANES = 16
"""Side by side, of the games that are played at the end."""
COLUMNS = (*CELL, "states", "seconds", "cpu", "score", "low", "high", "load", "versions")


@dataclass
class Cost:
    """What it took."""

    seconds: float
    """On the clock."""
    cpu: float
    """Of processors, all processes and threads: what counts on a machine that computes other things, too."""
    states: int
    """Played."""


def theirs(args: argparse.Namespace, seed: int, folder: Path) -> tuple[AtariCNN, Cost]:
    """(student, seconds, states) of the checkout."""
    settings = dict(SETTINGS[args.settings])
    as_theirs = args.settings == "example"
    spec, out, weights = net_spec(args.student), folder / "theirs.json", folder / "theirs.pt"
    order = {
        "checkout": str(args.checkout.resolve()), "env": env_id(args.env), "lanes": args.lanes, "seed": seed,
        "teacher": str(find_teacher(args.teacher or args.env).path), "spec": spec.to_dict(), "states": args.states,
        "device": args.device, "weight": settings.pop("weight"), "settings": settings,
        "falls": not as_theirs, "rewards": "normalized" if as_theirs else "clipped", "weights": str(weights),
        "out": str(out),
    }  # fmt: skip
    command = [sys.executable, str(HERE / "proximal_peer.py"), json.dumps(order)]
    subprocess.run(command, check=True, env=ENVIRONMENT | {"PYTHONPATH": str(HERE.parent)})
    done = json.loads(out.read_text())
    net = AtariCNN(spec, len(game_info(args.env).actions))
    net.load_state_dict(torch.load(weights, weights_only=True))
    return net, Cost(**done)


def ours(args: argparse.Namespace, seed: int, folder: Path) -> tuple[AtariCNN, Cost]:
    """The same of ``distill finetune``, in a process of its own."""
    run = folder / f"ours-{args.env}-{args.settings}-{seed}-{args.states}"
    shutil.rmtree(run, ignore_errors=True)  # what was cut off, or trained and not played, would go on in less time
    settings = dict(SETTINGS[args.settings])
    settings |= {"teacher_weight": settings.pop("weight"), "schedule": "constant", "clipped_kl": "true"}
    settings |= {"states": args.states, "num_envs": args.lanes, "out": run, "checkpoint_every": 250_000}
    words = [f"--finetune.{name}={value}" for name, value in settings.items()]
    words += [f"--env={args.env}", f"--student.name={args.student}", f"--seed={seed}", f"--device={args.device}"]
    words += [f"--teacher={args.teacher}"] if args.teacher else []
    command = [sys.executable, "-c", PROGRAM, "finetune", *words]
    done = subprocess.run(
        command, check=True, env=ENVIRONMENT | {"PYTHONPATH": str(HERE.parent)}, stdout=subprocess.PIPE, text=True
    )
    student = load_student(run)
    assert isinstance(student.net, AtariCNN)
    seconds, cpu = map(float, done.stdout.split()[-2:])
    return student.net, Cost(seconds, cpu, student.training.data.states)


def row(args: argparse.Namespace, seed: int, who: str, folder: Path) -> dict[str, Any]:
    """Train, then play whole games."""
    load = round(os.getloadavg()[0], 1)
    net, cost = {"theirs": theirs, "ours": ours}[who](args, seed, folder)
    match = Match(net.eval(), args.env, get_preset("sb3"), get_protocol("zoo"), pick_device(args.device))
    scores = [game.score for game in play(match, games=args.games, num_envs=min(LANES, args.games), seed=1)]
    played = summarise(scores)
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    told = (*cell(args, seed, who), cost.states, round(cost.seconds, 1), round(cost.cpu, 1),
            round(played.mean, 2), *(round(end, 2) for end in played.ci95), load, used)  # fmt: skip
    return dict(zip(COLUMNS, told, strict=True))


def cell(args: argparse.Namespace, seed: int, who: str) -> tuple[str, ...]:
    """What stands under ``CELL``, as text."""
    told = (args.env, args.taught, args.student, args.settings, args.lanes, args.states, args.games, args.device, seed,
            who)  # fmt: skip
    return tuple(map(str, told))


def find(rows: Sequence[Mapping[str, Any]], args: argparse.Namespace, seed: int, who: str) -> list[Mapping[str, Any]]:
    """The row of a cell, if it is there."""
    return [done for done in rows if tuple(str(done[name]) for name in CELL) == cell(args, seed, who)]


def read_rows(path: Path) -> list[Mapping[str, Any]]:
    """Rows so far; a table of other columns is an error, since it does not say what its rows are of."""
    if not path.exists():
        return []
    table = csv.DictReader(path.open(newline=""))
    if tuple(table.fieldnames or ()) != COLUMNS:
        sys.exit(f"{path} has other columns; choose another --out")
    return list(table)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows; the file is whole at any moment."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="folder of sb3_distill's repository")
    parser.add_argument("--env", default="pong", help="game (%(default)s)")
    parser.add_argument("--teacher", default="", help="stable-baselines3 zip; by default the game's bundled agent")
    parser.add_argument("--student", default="mnih2013", help="network (%(default)s)")
    parser.add_argument("--settings", choices=[*SETTINGS], default="zoo", help="of PPO (%(default)s)")
    parser.add_argument("--states", type=int, default=1_000_000, help="environment steps (%(default)s)")
    parser.add_argument("--lanes", type=int, default=16, help="games side by side (%(default)s)")
    parser.add_argument("--seeds", default="1,2,3", help="with commas between them (%(default)s)")
    parser.add_argument("--games", type=int, default=64, help="whole games of each student (%(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/proximal"), help="(%(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="4,096 steps, one seed, 2 games: shows that it runs, no more"
    )
    args = parser.parse_args()
    if args.quick:
        args.states, args.seeds, args.games = 4096, "1", 2
    if args.games < 1 or args.games % min(LANES, args.games):
        parser.error(f"--games must be below {LANES} or a multiple of it, got {args.games}")
    teacher = load_teacher(args.teacher or args.env, game=args.env).info
    if teacher.preset != "sb3":
        parser.error("stable-baselines3's wrappers show preset sb3, and this teacher sees another")
    args.taught = f"{args.teacher or args.env} {teacher.fingerprint[:12]}"
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "rows.csv"
    rows, seeds = read_rows(path), [int(seed) for seed in args.seeds.split(",")]
    for seed in seeds:
        for who in ("theirs", "ours"):
            if not find(rows, args, seed, who):
                began = time.perf_counter()
                rows.append(row(args, seed, who, args.out))
                write_rows(path, rows)
                print(f"{rows[-1]}\n  all together {time.perf_counter() - began:.0f} s", flush=True)
    for who in ("theirs", "ours"):
        mine = [done for seed in seeds for done in find(rows, args, seed, who)]
        names = ("seconds", "cpu", "score")
        seconds, cpu, score = (statistics.fmean(float(done[name]) for done in mine) for name in names)
        print(f"{who}: {len(mine)} seeds, mean score {score:.1f}, {seconds:.0f} s, {cpu:.0f} s of processors")


if __name__ == "__main__":
    main()
