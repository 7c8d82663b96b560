"""Proximal policy distillation (Spigler 2024): ``python -m my_package.proximal FOLDER``.

The student plays; it learns by PPO's clipped loss on its own reward, and stays near its teacher on its own states.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from distill import api

LANES, ROLLOUT, ROLLOUTS, PASSES, BATCH = 4, 32, 2, 4, 32
GAMMA, LAMBDA, CLIP, SEED = 0.99, 0.95, 0.2, 1
STEPS = ROLLOUTS * PASSES * (LANES * ROLLOUT // BATCH)


@dataclass
class Played(api.Batch):
    """States that the student played, the teacher's logits there, and what came of its actions."""

    action: torch.Tensor
    log_prob: torch.Tensor
    advantage: torch.Tensor
    outcome: torch.Tensor

    def only(self, rows):
        parts = {name: part[rows] for name, part in vars(self).items() if name not in ("index", "targets")}
        return Played(index=self.index[rows.numpy()], targets=None, **parts)


class Games:
    """A stream: plays a rollout with the weights of the moment, then gives its states in batches, several times."""

    def __init__(self, net, teacher, env):
        self.net, self.teacher, self.env = net, teacher, env
        self.obs, self.acting = env.reset(SEED), np.ones(LANES, bool)
        self.chance = torch.Generator().manual_seed(SEED)
        self.states = 0

    def __iter__(self):
        while True:
            rollout = self.play()
            for _ in range(PASSES):
                order = torch.randperm(len(rollout.obs), generator=self.chance)
                yield from map(rollout.only, order[: len(order) // BATCH * BATCH].split(BATCH))

    @torch.no_grad()
    def play(self):
        seen, told = [], []
        for _ in range(ROLLOUT):
            obs = torch.from_numpy(self.obs.copy())
            logits, value = self.net.logits_and_value(api.to_unit(obs))
            action = torch.multinomial(logits.softmax(-1), 1, generator=self.chance)
            log_prob, acting = logits.log_softmax(-1).gather(1, action), torch.from_numpy(self.acting)
            seen.append((obs, self.teacher(api.to_unit(obs)), action[:, 0], log_prob[:, 0], acting))
            step = self.env.step(action[:, 0].numpy())
            end = step.terminated | step.truncated | step.life_lost
            told.append((value, torch.from_numpy(np.sign(step.reward).astype(np.float32)), torch.from_numpy(~end)))
            self.obs, self.acting = step.obs, step.acting
        advantage, value = self.advantage(*(torch.stack(part) for part in zip(*told, strict=True)))
        obs, logits, action, log_prob, acting = (torch.cat(part) for part in zip(*seen, strict=True))
        every = Played(np.arange(len(obs)), obs, logits, None, action, log_prob, advantage, advantage + value)
        self.states += int(acting.sum())
        return every.only(acting.nonzero()[:, 0])  # elsewhere the game's script chose

    def advantage(self, value, reward, more):
        """Generalised advantages of all steps, and the values they are of, float (steps * lanes,) each."""
        after = self.net.logits_and_value(api.to_unit(torch.from_numpy(self.obs)))[1]
        advantage, ahead = torch.zeros_like(value), torch.zeros(LANES)
        for t in reversed(range(ROLLOUT)):
            ahead = reward[t] + GAMMA * after * more[t] - value[t] + GAMMA * LAMBDA * ahead * more[t]
            advantage[t], after = ahead, value[t]
        return advantage.flatten(), value.flatten()


class Proximal:
    """The clipped loss, the error of the value, and the divergence from the teacher, whose weight falls."""

    def __init__(self, net):
        self.net = net

    def weights(self, step, total):
        return {"value": 0.5, "teacher": 1 - 0.5 * step / total}

    def gradient(self, batch, weights):
        logits, value = self.net.logits_and_value(api.to_unit(batch.obs))
        log_probs = logits.log_softmax(-1)
        ratio = (log_probs.gather(1, batch.action[:, None])[:, 0] - batch.log_prob).exp()
        gain = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        losses = {
            "clipped": -torch.min(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain).mean(),
            "value": F.mse_loss(value, batch.outcome),
            "teacher": F.kl_div(log_probs, batch.logits.log_softmax(-1), log_target=True, reduction="batchmean"),
        }
        total = sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
        total.backward()
        return api.Losses(total.detach(), {name: loss.detach() for name, loss in losses.items()}, logits.detach())


class Report(api.Hook):
    def stepped(self, now):
        print(now.step, *(f"{name} {loss:.4f}" for name, loss in now.losses.items()), flush=True)


def proximal(folder):
    torch.manual_seed(SEED)
    teacher = api.load_teacher("pong")
    task = teacher.info.task
    net = api.AtariCNN(api.NetSpec(((8, 8, 4), (8, 4, 2)), (32,)), task.num_actions, value=True)
    optimizer = torch.optim.Adam(net.parameters(), eps=1e-5)
    model = api.Model(net, optimizer, lambda step, total: 0.002 * (1 - step / total), STEPS, BATCH, max_grad_norm=0.5)
    with api.AtariVec(task.game, LANES, api.get_preset(task.preset)) as env:
        games = Games(net, teacher, env)
        end = api.fit(model, games, Proximal(net), Report(), until=lambda now: now.step == STEPS)
        fresh = games.play()
    with torch.no_grad():
        scores = api.fidelity_of_outputs(net(api.to_unit(fresh.obs)), fresh.logits, task.game)
    papers = api.Training(
        student="small", **teacher.info.told, data=api.OwnGames(games.states, LANES), seed=SEED, steps=STEPS,
        best_step=STEPS, train_seconds=end.seconds,
        metrics={f"val_{name}": value for name, value in vars(scores).items()},
    )  # fmt: skip
    api.save_student(folder / "student", net, task, papers)


if __name__ == "__main__":
    proximal(Path(sys.argv[1]))
