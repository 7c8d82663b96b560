"""Whether two revisions compute the same, to the bit: run before and after a change that should change nothing.

    make same BEFORE=HEAD~1

A tiny collection, both trainings, online imitation, a sweep and an evaluation at seed 1, by the command line of each
revision. What is compared: the arrays of the dataset, the weights, the scores and the rows. Bits are those of one
machine and one PyTorch, so both revisions run here and no digest is kept.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "collect --env pong --collect.out data --collect.states 400 --collect.num_envs 4 --collect.shard_states 128",
    "train --env pong --train.data data --train.out kl --train.steps 40 --train.batch_size 16 --train.val_every 20 "
    "--objective.jacobian_weight 0",
    "train --env pong --train.data data --train.out sobolev --train.steps 40 --train.batch_size 16 "
    "--train.val_every 20",
    "train --env pong --train.data data --train.out autograd --train.steps 10 --train.batch_size 16 "
    "--train.engine autograd --objective.jacobian_targets online --student.activation tanh",
    "collect --env pong --collect.out data --collect.states 200 --collect.num_envs 4 --collect.actor kl",
    "imitate --env pong --imitate.out online --imitate.states 1500 --imitate.num_envs 4 --imitate.ring 1000 "
    "--imitate.learning_starts 200 --imitate.batch_size 16",
    "sweep --env pong --train.data data --sweep.out sweep --train.steps 10 --train.batch_size 16 "
    "--sweep.grid '{seed: [1, 2], objective.jacobian_weight: [0, 1]}'",
    "evaluate --env pong --evaluate.out scores --evaluate.agents [teacher,kl,sobolev] --evaluate.games 4",
)
CLOCK = ("train_seconds",)


def digests(checkout: Path, folder: Path) -> dict[str, str]:
    """What the revision in ``checkout`` makes in ``folder``: a digest by file."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    for command in COMMANDS:
        words = [sys.executable, "-m", "distill.cli", *shlex.split(command), "--device", "cpu"]
        subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "model.safetensors" or (name.startswith("data/shards/") and path.suffix not in ("", ".json")):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    scores = json.loads((folder / "scores" / "scores.json").read_text())["agents"]
    found |= {f"scores of {name}": str(agent["returns"]) for name, agent in scores.items()}
    with (folder / "sweep" / "rows.csv").open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            found[f"row {number}"] = str({name: value for name, value in row.items() if name not in CLOCK})
    return found


def main() -> int:
    """Compare this checkout with the revision that is named."""
    with tempfile.TemporaryDirectory() as base:
        before = Path(base, "before")
        subprocess.run(["git", "worktree", "add", "--detach", str(before), sys.argv[1]], cwd=ROOT, check=True)
        try:
            results = []
            for checkout in (before, ROOT):
                folder = Path(base, f"made-{len(results)}")
                folder.mkdir()
                results.append(digests(checkout, folder))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(before)], cwd=ROOT, check=True)
    old, new = results
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    for name in changed:
        print(f"{name}: {old.get(name, 'not there')} before, {new.get(name, 'not there')} now")
    print(f"{len(old)} results compared, {len(changed)} differ")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
