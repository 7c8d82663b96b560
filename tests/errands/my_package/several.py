"""A student of several games: ``python -m my_package.several FOLDER pong=DATA breakout=DATA``.

One trunk and a head for each game; a batch of each game in turn; a student folder for each game.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from distill import api

STEPS, BATCH = 32, 32


def make_trunk():
    return nn.Sequential(nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 8, 4, 2), nn.ReLU(), nn.Flatten())


class Player(nn.Module):
    """What plays one game; ``path`` lets the fast engine train it."""

    def __init__(self, num_actions, trunk=None):
        super().__init__()
        self.trunk, self.head = trunk or make_trunk(), nn.Linear(8 * 9 * 9, num_actions)

    def forward(self, x):
        return self.head(self.trunk(x))

    def path(self):
        return nn.Sequential(*self.trunk, self.head)


@dataclass
class OfGame(api.Batch):
    game: str


class InTurn:
    """Lessons of several games as one stream and one objective."""

    def __init__(self, lessons):
        self.lessons, self.games = lessons, list(lessons)

    def turns(self, step, game):
        """How many of the first ``step`` steps are of this game."""
        return (step + len(self.games) - 1 - self.games.index(game)) // len(self.games)

    def batches(self, first, last):
        each = {
            game: one.batches(*(self.turns(step, game) for step in (first, last, last)))
            for game, one in self.lessons.items()
        }
        for step in range(first, last):
            game = self.games[step % len(self.games)]
            yield OfGame(**vars(next(each[game])), game=game)

    def weights(self, step, total):
        game = self.games[step % len(self.games)]
        return self.lessons[game].weights(self.turns(step, game), self.turns(total, game))

    def gradient(self, batch, weights):
        return self.lessons[batch.game].gradient(batch, weights)


class Report(api.Hook):
    def __init__(self, lessons):
        self.lessons = lessons

    def started(self, now):
        for game, one in self.lessons.items():
            print(f"step {now.step}: {game} {api.measure(one.net, one.data.dataset).kl:.4f}", flush=True)

    def stepped(self, now):
        if now.step % 8 == 0:
            self.started(now)


def several(folder, data):
    torch.manual_seed(1)
    trunk = make_trunk()
    net = nn.ModuleDict({game: Player(api.Dataset(path).task.num_actions, trunk) for game, path in data.items()})
    lessons = {
        game: api.lesson(
            api.Config(
                env=game,
                device="cpu",
                objective=api.ObjectiveConfig(jacobian_weight=0.01),
                train=api.TrainConfig(data=path, batch_size=BATCH, val_states=40),
            ),
            net[game],
        )
        for game, path in data.items()
    }
    together = InTurn(lessons)
    kept = api.Kept(net, torch.optim.AdamW(net.parameters(), fused=True), api.Place(), settings={"data": data})
    kept.go_on(folder, torch.device("cpu"))
    model = api.Model(net, kept.optimizer, lambda step, total: 0.003, STEPS, batch_size=BATCH, progress=kept.progress)
    stream = together.batches(model.progress.step, STEPS)
    with api.Saver(folder, kept, due=lambda now: now.step % 8 == 0) as saver:
        end = api.fit(model, stream, together, api.Hooks([Report(lessons), saver]), until=lambda now: now.step == STEPS)
    for game, one in lessons.items():
        papers = one.papers(one.score(), steps=STEPS, best_step=STEPS, seconds=end.seconds)
        api.save_student(folder / game / "student", net[game], one.task, papers, network="my_package.several:Player")


if __name__ == "__main__":
    several(Path(sys.argv[1]), dict(word.split("=") for word in sys.argv[2:]))
