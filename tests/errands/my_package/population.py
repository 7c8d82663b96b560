"""Population based training in rounds (Jaderberg et al. 2017): ``python -m my_package.population FOLDER DATA``.

After each round the worst member takes weights, optimizer and settings of the best one, and multiplies the settings.
Every round of every member is a run of its own, so the same command goes on wherever it was cut off, and the folder
shows who descends from whom.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distill.api import Config, Hook, ObjectiveConfig, StudentConfig, TrainConfig, load_student, train

MEMBERS, ROUNDS, STEPS = 3, 3, 4


class Report(Hook):
    """Says how a member does."""

    def measured(self, now, figures):
        if "val/kl" in figures:
            print(f"step {now.step} of {now.total}: {figures['val/kl']:.4f}", flush=True)


@dataclass(frozen=True)
class Member:
    learning_rate: float
    jacobian_weight: float
    parent: Path | None = None

    def explored(self, chance: np.random.Generator) -> "Member":
        rate, weight = chance.choice([0.8, 1.25], 2)
        return replace(self, learning_rate=self.learning_rate * rate, jacobian_weight=self.jacobian_weight * weight)


def run(member: Member, folder: Path, data: str, number: int, last: int) -> tuple[Path, float]:
    config = Config(
        device="cpu",
        seed=1 + number,
        student=StudentConfig(convs=[(4, 8, 4)], hidden=[8]),
        objective=ObjectiveConfig(jacobian_weight=member.jacobian_weight),
        train=TrainConfig(
            data=data, out=str(folder), fork_from=member.parent and str(member.parent), last_step=last,
            steps=ROUNDS * STEPS, learning_rate=member.learning_rate, batch_size=8, warmup=2, val_states=40,
            val_every=STEPS, loggers=[],
        ),
    )  # fmt: skip
    done = train(config, hooks=[Report()])
    return done, load_student(done).training.metrics["val_kl"]


def population(folder: Path, data: str) -> None:
    members = [Member(rate, 0.1) for rate in (0.0001, 0.003, 0.01)]
    for turn in range(ROUNDS):
        ran = [
            run(member, folder / f"{turn}-{number}", data, number, STEPS * (turn + 1))
            for number, member in enumerate(members)
        ]
        scores = [score for _, score in ran]
        best, worst = int(np.argmin(scores)), int(np.argmax(scores))
        members = [replace(member, parent=done) for member, (done, _) in zip(members, ran, strict=True)]
        members[worst] = members[best].explored(np.random.default_rng([turn, worst]))


if __name__ == "__main__":
    population(Path(sys.argv[1]), sys.argv[2])
