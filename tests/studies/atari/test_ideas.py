"""Ideas on top of the recipe: what their gradients are of."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import conv_transpose2d

from distill.api import CollectConfig, Config, Lesson, ObjectiveConfig, collect, lesson, load_teacher, validated
from distill.networks.nets import AtariCNN, to_unit
from distill.train.settings import TrainConfig
from studies.atari.ideas.first_layer import AtItsOutput, AtOutput, TeachersFirstLayer, path
from studies.atari.ideas.idea import Idea
from studies.atari.ideas.run import variations
from studies.atari.ideas.value import ValueToo, WithValue
from studies.atari.plan import QUICK
from teachers.protocol import Teacher


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("ideas")
    collect(
        validated(
            Config(env="pong", device="cpu", collect=CollectConfig(out=str(folder / "data"), states=300, num_envs=4))
        )
    )
    train = TrainConfig(data=str(folder / "data"), batch_size=16, steps=100, val_states=64)
    objective = ObjectiveConfig(jacobian_weight=1.0, jacobian_share=0.5, jacobian_until=0.5)
    return Config(env="pong", device="cpu", train=train, objective=objective)


def of_the_teacher(config: Config, idea: Idea) -> tuple[Lesson, Teacher]:
    """The lesson of a student that is its teacher already, with the value head that the idea gave it."""
    teacher = load_teacher("pong")
    assert isinstance(teacher.net, AtariCNN)
    net = AtariCNN(teacher.net.spec, teacher.info.num_actions)
    idea.prepare(net, teacher)
    net.load_state_dict({name: teacher.net.state_dict()[name] for name in net.state_dict()})
    return lesson(config, net), teacher


def test_derivatives_at_the_first_layers_output_are_a_factor_of_the_pixels(config: Config) -> None:
    of, teacher = of_the_teacher(config, AtItsOutput())
    batch = next(of.batches(0, 1, 100))
    assert batch.targets is not None
    _, factor = AtOutput(of, teacher)._seen(batch)
    assert factor is not None
    first = path(teacher.net)[0]
    pixels = conv_transpose2d(factor.row(0), first.weight, stride=first.stride)
    stored = batch.targets.row(0)
    assert float((pixels - stored).norm() / stored.norm()) < 0.01  # codes of 8 bits
    assert 0.5 < float((factor.vjp == 0).float().mean()) < 0.9


def test_who_is_the_teacher_has_nothing_left_to_match_at_the_first_layer(config: Config) -> None:
    of, teacher = of_the_teacher(config, AtItsOutput())
    batch = next(of.batches(0, 1, 100))
    losses = AtOutput(of, teacher).gradient(batch, {"jacobian": 1.0})
    assert losses.jacobian is not None
    assert float(losses.jacobian) < 1e-6
    assert of.net.features[0].weight.grad is None  # type: ignore[union-attr, index]


def test_the_teachers_first_layer_stays(config: Config) -> None:
    of, teacher = of_the_teacher(config, TeachersFirstLayer())
    TeachersFirstLayer().minimised(of, teacher).gradient(next(of.batches(0, 1, 100)), {"jacobian": 1.0})
    layers = path(of.net)
    assert layers[0].weight.grad is None
    assert layers[2].weight.grad is not None


def test_values_gradient_is_that_of_the_formula(config: Config) -> None:
    """Twice the teacher's value is off by the value, and by its derivatives."""
    of, teacher = of_the_teacher(config, ValueToo())
    idea, batch = WithValue(of, teacher), next(of.batches(0, 1, 100))
    assert batch.targets is not None
    idea.gradient(batch, {"jacobian": 0.0})
    head = of.net.value
    assert isinstance(head, torch.nn.Linear)
    assert float(head.weight.grad.abs().max()) < 1e-6  # type: ignore[union-attr]
    with torch.no_grad():
        head.weight.mul_(2)
        head.bias.mul_(2)
    of.net.zero_grad()
    plain = dataclasses.replace(batch, targets=None)
    idea.gradient(plain, {"jacobian": 1.0})  # no derivatives: the error alone
    value = teacher.logits_and_value(to_unit(batch.obs))[1]
    assert value is not None
    expected = 0.1 * 2 * value.mean() / idea._variance
    assert float(head.bias.grad) == pytest.approx(float(expected), rel=1e-4)  # type: ignore[arg-type]


def test_every_idea_is_tried_at_a_cost_that_it_can_afford() -> None:
    tried = variations(QUICK)
    assert len(tried) == 18
    steps = {name: cell["train.steps"] for name, (_, cell) in tried.items()}
    assert steps["KL"] == QUICK.cost
    assert steps["Sobolev, value too"] < steps["Sobolev"] < steps["KL"]
    assert steps["Sobolev, where they differ most"] < steps["Sobolev"]
