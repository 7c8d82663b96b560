"""The loop with parts made by hand: what it asks of them, in which order, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from distill.batches.loader import Batch
from distill.errors import DivergedError
from distill.losses.sobolev import Losses
from distill.train.fit import Model, fit
from distill.train.hooks import Hook, Hooks, Status


@dataclass
class Counter:
    step: int = 0
    seconds: float = 0.0


class Line:
    """Least squares on what a batch holds, with a weight that is only watched."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def weights(self, step: int, total: int) -> Mapping[str, float]:
        return {"term": step / total}

    def gradient(self, batch: Batch, weights: Mapping[str, float]) -> Losses:
        output = self.net(batch.obs)
        loss = (output - batch.logits).square().mean()
        loss.backward()
        return Losses(loss.detach(), {"divergence": loss.detach()}, output.detach())


class Watch(Hook):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Status]] = []

    def started(self, now: Status) -> None:
        self.told.append(("started", now))

    def stepped(self, now: Status) -> None:
        self.told.append(("stepped", now))

    def ended(self, now: Status) -> None:
        self.told.append(("ended", now))


def parts(count: int = 12) -> tuple[Model, list[Batch], Line]:
    torch.manual_seed(1)
    net = nn.Linear(3, 2)
    x = torch.randn(count, 8, 3)
    y = x @ torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    stream = [Batch(np.arange(8), a, b, None) for a, b in zip(x, y, strict=True)]
    optimizer = torch.optim.SGD(net.parameters(), lr=9.0)
    model = Model(net, optimizer, lambda step, total: 0.5 * (1 - step / total), count, 8)
    return model, stream, Line(net)


def test_it_takes_a_step_on_every_batch_and_tells_of_it() -> None:
    model, stream, objective = parts()
    watch = Watch()
    last = fit(model, stream, objective, Hooks([watch]), lambda now: now.step == now.total)
    assert [name for name, _ in watch.told] == ["started", *["stepped"] * 12, "ended"]
    seen = [now for _, now in watch.told[1:-1]]
    assert [now.step for now in seen] == list(range(1, 13))
    assert [now.states for now in seen] == list(range(8, 97, 8))
    assert [now.learning_rate for now in seen] == pytest.approx([0.5 * (1 - step / 12) for step in range(12)])
    assert [now.weights["term"] for now in seen] == [step / 12 for step in range(12)]
    assert watch.told[0][1].losses is None
    assert last is watch.told[-1][1]
    losses = [float(now.losses.total) for now in seen if now.losses is not None]
    assert losses[-1] < 0.1 * losses[0]

    # The same by hand.
    model, stream, objective = parts()
    for step, batch in enumerate(stream):
        model.optimizer.param_groups[0]["lr"] = 0.5 * (1 - step / 12)
        model.optimizer.zero_grad()
        objective.gradient(batch, {})
        model.optimizer.step()
    again, stream, objective = parts()
    fit(again, stream, objective, Hook(), lambda now: now.step == now.total)
    assert all(map(torch.equal, model.net.parameters(), again.net.parameters()))


def test_it_asks_before_every_step_whether_that_was_the_last() -> None:
    model, stream, objective = parts()
    assert fit(model, stream, objective, Hook(), lambda now: now.step >= 5).step == model.progress.step == 5
    before = [parameter.clone() for parameter in model.net.parameters()]
    assert fit(model, iter(()), objective, Hook(), lambda now: True).step == 5, "no batch is asked for"
    assert all(map(torch.equal, model.net.parameters(), before))


def test_a_hook_that_raises_ends_it_between_two_steps() -> None:
    class Enough(Hook):
        def stepped(self, now: Status) -> None:
            if now.step == 3:
                raise StopIteration

    model, stream, objective = parts()
    watch = Watch()
    with pytest.raises(StopIteration):
        fit(model, stream, objective, Hooks([watch, Enough()]), lambda now: False)
    assert model.progress.step == 3
    assert watch.told[-1][0] == "stepped"


def test_a_loss_that_is_not_finite_leaves_the_weights_alone() -> None:
    model, stream, objective = parts()
    stream[4].logits[0, 0] = float("nan")
    seen: list[torch.Tensor] = []

    class Keep(Hook):
        def stepped(self, now: Status) -> None:
            seen[:] = [parameter.detach().clone() for parameter in model.net.parameters()]

    with pytest.raises(DivergedError, match=r"stopped at step 5: loss nan, gradient norm nan, batch of states 0, 1, 2"):
        fit(model, stream, objective, Keep(), lambda now: False)
    assert model.progress.step == 4
    assert all(map(torch.equal, model.net.parameters(), seen))
