"""How fast ``make teacher`` learns, against stable-baselines3's PPO on its own environments.

    python benchmarks/teacher.py --out runs/bench/teacher.json

The same game, network and settings (RL Baselines3 Zoo's: 8 games, 128 steps, 4 passes in batches of 256). The rival is
a process with PyTorch's own settings: ``PPO("CnnPolicy")`` on ``make_atari_env`` + ``VecFrameStack``, DummyVecEnv or
SubprocVecEnv, the faster of which counts. The same with our process settings is told beside it. A turn is a few
iterations of rollout and update; the details give both parts.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections import defaultdict

from measure import Elsewhere, Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

from peer import PPO_LANES, PPO_STEPS

GAME = "breakout"
SETUPS = {
    "ours": {"env": "ours", "tuned": True},
    "SB3, DummyVecEnv": {"env": "DummyVecEnv"},
    "SB3, SubprocVecEnv": {"env": "SubprocVecEnv"},
    "tuned SB3, DummyVecEnv": {"env": "DummyVecEnv", "tuned": True},
    "tuned SB3, SubprocVecEnv": {"env": "SubprocVecEnv", "tuned": True},
}


def measure(args: argparse.Namespace) -> list[Row]:
    iterations, rounds = 1, 1 if args.quick else 5
    seconds: dict[str, list[float]] = defaultdict(list)
    updates: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    common = {"program": "ppo", "game": GAME, "iterations": iterations, "device": args.device}
    with contextlib.ExitStack() as stack:
        programs = {name: stack.enter_context(Elsewhere(**common, **setup)) for name, setup in SETUPS.items()}
        for number in range(1 + rounds):
            for name, program in programs.items():
                spent = program.turn(1)
                if number:
                    seconds[name].append(spent)
                    updates[name].append(program.result["updates"])
                    cpu[name].append(program.result["cpu"])
    median = {name: statistics.median(every) / iterations for name, every in seconds.items()}
    update = {name: statistics.median(every) / iterations for name, every in updates.items()}
    threads = {name: round(statistics.median(every) / iterations, 3) for name, every in cpu.items()}
    fastest = min((name for name in SETUPS if name.startswith("SB3")), key=lambda name: median[name])
    details = {
        "steps_per_second": {name: round(PPO_LANES * PPO_STEPS / every) for name, every in median.items()},
        "seconds_of_an_iteration": {
            name: {"rollout": round(whole - update[name], 3), "update": round(update[name], 3)}
            for name, whole in median.items()
        },
        "cpu_seconds_of_an_iteration": threads,  # without SubprocVecEnv's other processes
        "fastest_peer": fastest, "rounds": rounds, "iterations": iterations, "lanes": PPO_LANES, "n_steps": PPO_STEPS,
    }  # fmt: skip
    what = f"training a teacher, PPO, {GAME}"
    tuned = min(spent for name, spent in median.items() if name.startswith("tuned"))
    return [
        Row(what, "SB3 PPO on make_atari_env", median[fastest] / median["ours"], "x", ">= 1.5", details),
        Row(what, "the same with our process settings", tuned / median["ours"], "x"),
    ]


if __name__ == "__main__":
    main(measure, __doc__ or "")
