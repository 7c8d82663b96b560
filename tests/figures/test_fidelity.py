"""Fidelity against its definition, state by state, on small hand-made datasets."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.batches.loader import Loader
from distill.config.config import Config
from distill.dataset.codec import decode, encode
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays, gather_stacks
from distill.dataset.writer import DatasetWriter
from distill.engine.engine import Engine
from distill.envs.games import MERGED_ACTIONS, merged_actions
from distill.figures.fidelity import Fidelity, fidelity, input_gradient, measure, state_sums
from distill.figures.figure import OWN
from distill.losses.projection import cotangent, outputs, quadrature, sample
from distill.losses.settings import ObjectiveConfig
from distill.networks.nets import AtariCNN, NetSpec, to_unit
from distill.records.dataset import Identity, Played
from teachers.load import load_teacher

CPU = torch.device("cpu")
STATES, ACTIONS = 10, 6  # as Pong has


def make_net(seed: int) -> AtariCNN:
    torch.manual_seed(seed)
    net = AtariCNN(NetSpec(((4, 8, 4), (6, 4, 2)), (12,)), ACTIONS)
    with torch.no_grad():
        net.policy.weight.mul_(200)
    return net


def make_pair() -> tuple[AtariCNN, AtariCNN]:
    """A teacher, and a student that is like it and yet another."""
    teacher, student = make_net(0), make_net(0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.3 * parameter.std(correction=0) * torch.randn_like(parameter)
    return teacher, student


def output_gradient(net: AtariCNN, x: Tensor, space: str, v: Tensor) -> Tensor:
    """d <v, outputs(net(x))> / d x of one state, (1, 4, 84, 84), by autograd from the pixels up."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad((outputs(space, net(x)) * v).sum(), x)
    return gradient


def write_dataset(folder: Path, teacher: AtariCNN, kind: str, space: str, codec: str = "fp16") -> Dataset:
    """Three games of noise, labelled by plain autograd."""
    rng = np.random.default_rng(0)
    # Blocks of one brightness: averaged over a frame, pixel noise would look the same in every state.
    blocks = rng.integers(0, 256, (STATES + 3, 4, 4), dtype=np.uint8)
    frames = blocks.repeat(21, 1).repeat(21, 2)
    pos = np.arange(3, STATES + 3)
    x = to_unit(torch.from_numpy(gather_stacks(frames, pos)))
    logits = teacher(x).detach()
    generator = torch.Generator().manual_seed(0)
    v = {
        "projected": sample("sphere", logits, 2, generator, zero_sum=space == "logits"),
        "full": torch.eye(ACTIONS).expand(STATES, -1, -1),
        "none": torch.zeros(STATES, 0, ACTIONS),
    }[kind]
    rows = v.shape[1]
    vjp = [[output_gradient(teacher, x[i : i + 1], space, v[i, k])[0] for k in range(rows)] for i in range(STATES)]
    arrays = ShardArrays(
        frames=frames,
        pos=pos,
        episode=np.repeat([0, 1, 2], [4, 3, 3]),
        t=np.arange(STATES, dtype=np.int32),
        action=np.zeros(STATES, np.int16),
        reward=np.zeros(STATES, np.float32),
        terminated=np.zeros(STATES, bool),
        truncated=np.zeros(STATES, bool),
        life_lost=np.zeros(STATES, bool),
        logits=logits.numpy(),
    )
    if rows:
        encoded = encode(torch.stack([torch.stack(each) for each in vjp]).numpy(), codec)
        arrays.jacobian, arrays.row_scale, arrays.gain = encoded.codes, encoded.row_scale, encoded.gain
        arrays.v = v.numpy() if kind == "projected" else None
        assert np.abs(decode(encoded, codec)).max() > 0
    identity = Identity("pong", "0" * 32, "sb3", "hash", "teacher", kind, rows, "sphere", space, codec)
    writer = DatasetWriter(folder, identity, "teacher", {}, {"name": "noise"})
    writer.commit(arrays, Played(3, 1.0))
    writer.close()
    return Dataset(folder)


def by_definition(
    net: AtariCNN, teacher: AtariCNN, dataset: Dataset, index: np.ndarray, temperature: float, law: str = "sphere"
) -> Fidelity:
    """One state and one projection at a time, the teacher asked again."""
    identity = dataset.identity
    kls, errors, variations, merged, cosines, residuals, squares = [], [], [], [], [], [], []
    for i in index:
        x = to_unit(torch.from_numpy(dataset.stacks(np.array([i]))))
        with torch.no_grad():
            mine, theirs = net(x)[0].softmax(-1), (teacher(x)[0] / temperature).softmax(-1)
        kls.append(float((theirs * (theirs / mine).log()).sum()))
        errors.append(int(mine.argmax() != theirs.argmax()))
        p, q = mine.numpy(), theirs.numpy()
        variations.append(np.abs(p - q).sum() / 2)
        # Pong: NOOP or FIRE, RIGHT or RIGHTFIRE, LEFT or LEFTFIRE.
        merged.append(int(np.argmax(p[[0, 2, 3]] + p[[1, 4, 5]]) != np.argmax(q[[0, 2, 3]] + q[[1, 4, 5]])))
        if identity.jacobian == "none":
            continue
        rows = dataset.v[i] if identity.jacobian == "projected" else None
        if rows is None:
            rows = quadrature(law, teacher(x).detach(), zero_sum=identity.space == "logits")[0].numpy()
        for v in torch.as_tensor(rows):
            student = output_gradient(net, x, identity.space, v).flatten()
            target = output_gradient(teacher, x, identity.space, v).flatten() / temperature
            cosines.append(float(student @ target / (student.norm() * target.norm())))
            residuals.append(float((student - target).square().sum()))
            squares.append(float(target.square().sum()))
    mean = [None, None] if not cosines else [np.mean(cosines), math.sqrt(np.mean(residuals) / np.mean(squares))]
    return Fidelity(
        kl=float(np.mean(kls)),
        action_error=float(np.mean(errors)),
        jacobian_cosine=mean[0],
        jacobian_relative_error=mean[1],
        total_variation=float(np.mean(variations)),
        merged_action_error=np.mean(merged),
    )


def assert_close(got: Fidelity, want: Fidelity, tolerance: float = 2e-3) -> None:
    assert vars(got).keys() == vars(want).keys()
    for name, value in vars(want).items():
        assert getattr(got, name) == (None if value is None else pytest.approx(value, rel=tolerance, abs=tolerance)), (
            name
        )


CASES = [
    ("projected", "logits", 1.0),
    ("projected", "logits", 0.5),
    ("projected", "log_probs", 1.0),
    ("projected", "probs", 1.0),
    ("full", "logits", 2.0),
    ("none", "logits", 0.5),
]


@pytest.mark.parametrize("with_engine", [True, False])
@pytest.mark.parametrize(("kind", "space", "temperature"), CASES)
def test_equals_its_definition(tmp_path: Path, kind: str, space: str, temperature: float, with_engine: bool) -> None:
    teacher, student = make_pair()
    dataset = write_dataset(tmp_path / "data", teacher, kind, space)
    index = np.array([1, 2, 5, 6, 9])
    loader = Loader(dataset, ObjectiveConfig(), CPU, 0, None)
    engine = Engine(student.path()) if with_engine else None
    got = fidelity(student, engine, loader, index, temperature)
    want = by_definition(student, teacher, dataset, index, temperature)
    assert_close(got, want)
    assert want.kl > 0.002
    assert 0 < want.action_error < 1
    assert want.total_variation is not None
    assert 0.01 < want.total_variation < 1
    assert (got.jacobian_cosine is None) == (kind == "none")
    assert got.jacobian_cosine is None or 0.1 < got.jacobian_cosine < 0.95


def test_where_some_states_carry_derivatives_figures_on_these_are_over_them(
    pong_data: Path, pong_quarter: Path
) -> None:
    every, some = Dataset(pong_data), Dataset(pong_quarter)
    net, index = make_net(3), np.arange(3, 590)  # three batches
    mine = index[some.carries[index]]
    got, alone, whole = measure(net, some, index), measure(net, every, mine), measure(net, every, index)
    for name in ("kl", "action_error", "total_variation", "merged_action_error"):
        assert getattr(got, name) == pytest.approx(getattr(whole, name), rel=1e-5)
    for name in ("jacobian_cosine", "jacobian_relative_error"):
        assert getattr(got, name) == pytest.approx(getattr(alone, name), rel=1e-5)
        assert getattr(got, name) != pytest.approx(getattr(whole, name), rel=1e-5)
    none = measure(net, some, index[~some.carries[index]])
    assert (none.jacobian_cosine, none.jacobian_relative_error) == (None, None)
    assert none.kl > 0


def test_a_states_sums_stay_where_the_state_is(pong_data: Path, pong_quarter: Path) -> None:
    every, some = Dataset(pong_data), Dataset(pong_quarter)
    net, index = load_teacher("pong").net, np.array([599, 3, 17, 300, 42, 8, 9, 10, 11, 12])
    net.policy.weight.data.mul_(0.5)
    found = [
        state_sums(net, Engine(net.path()), Loader(data, ObjectiveConfig(), CPU, 0, None), index, 1.0, OWN)
        for data in (every, some)
    ]
    carries, of_outputs = some.carries[index], sum(len(figure.sums) for figure in OWN if figure.needs == "outputs")
    assert 0 < carries.sum() < len(index)
    np.testing.assert_allclose(found[1][:of_outputs], found[0][:of_outputs], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found[1][of_outputs:, carries], found[0][of_outputs:, carries], rtol=1e-5)
    assert not found[1][of_outputs:, ~carries].any()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_unlike_networks_disagree_on_some_effects(tmp_path: Path, temperature: float) -> None:
    teacher, student = make_net(0), make_net(3)
    dataset = write_dataset(tmp_path / "data", teacher, "none", "logits")
    want = by_definition(student, teacher, dataset, np.arange(STATES), temperature)
    assert_close(measure(student, dataset, temperature=temperature), want)
    assert want.merged_action_error is not None
    assert 0 < want.merged_action_error < want.action_error < 1


def test_full_jacobians_follow_the_objectives_law(tmp_path: Path) -> None:
    teacher, student = make_pair()
    dataset = write_dataset(tmp_path / "data", teacher, "full", "logits")
    index = np.arange(STATES)
    loader = Loader(dataset, ObjectiveConfig(law="fisher"), CPU, 0, None)
    got = fidelity(student, Engine(student.path()), loader, index, 1.0)
    assert_close(got, by_definition(student, teacher, dataset, index, 1.0, law="fisher"))


def test_more_states_than_one_batch(tmp_path: Path) -> None:
    teacher, student = make_pair()
    dataset = write_dataset(tmp_path / "data", teacher, "projected", "logits")
    loader = Loader(dataset, ObjectiveConfig(), CPU, 0, None)
    engine = Engine(student.path())
    every = fidelity(student, engine, loader, np.arange(STATES), 1.0)
    assert_close(fidelity(student, engine, loader, np.tile(np.arange(STATES), 30), 1.0), every, 1e-5)


@pytest.mark.parametrize(("codec", "cosine", "error"), [("fp16", 0.99999, 2e-3), ("int8", 0.999, 2e-2)])
def test_the_teacher_is_faithful_to_itself(tmp_path: Path, codec: str, cosine: float, error: float) -> None:
    teacher = make_net(0)
    dataset = write_dataset(tmp_path / "data", teacher, "projected", "logits", codec)
    loader = Loader(dataset, ObjectiveConfig(), CPU, 0, None)
    got = fidelity(teacher, Engine(teacher.path()), loader, np.arange(STATES), 1.0)
    assert got.kl == pytest.approx(0, abs=1e-6)
    assert got.action_error == got.merged_action_error == 0
    assert got.total_variation == pytest.approx(0, abs=1e-6)
    assert got.jacobian_cosine is not None
    assert got.jacobian_relative_error is not None
    assert cosine < got.jacobian_cosine <= 1 + 1e-6
    assert 0 < got.jacobian_relative_error < error


def test_a_blind_student_has_no_direction(tmp_path: Path) -> None:
    """A network whose output does not depend on the pixels: cosine 0 and error 1, not NaN."""
    teacher, blind = make_net(0), make_net(1)
    with torch.no_grad():
        blind.policy.weight.zero_()
    dataset = write_dataset(tmp_path / "data", teacher, "projected", "logits")
    loader = Loader(dataset, ObjectiveConfig(), CPU, 0, None)
    got = fidelity(blind, Engine(blind.path()), loader, np.arange(STATES), 1.0)
    assert got.jacobian_cosine == 0
    assert got.jacobian_relative_error == pytest.approx(1)


class Split(torch.nn.Module):
    """A network's policy with the two halves of Pong's actions swapped, effect by effect."""

    def __init__(self, net: AtariCNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, [1, 0, 4, 5, 2, 3]]


def test_equal_actions_split_otherwise(tmp_path: Path) -> None:
    """Every most likely action is another and every most likely effect is the same."""
    teacher = make_net(0)
    dataset = write_dataset(tmp_path / "data", teacher, "none", "logits")
    got = measure(Split(teacher), dataset)
    assert got.action_error == 1
    assert got.merged_action_error == 0
    assert got.total_variation is not None
    assert got.total_variation > 0.01


def test_without_equal_actions_the_two_errors_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(MERGED_ACTIONS, "pong")
    merged_actions.cache_clear()
    teacher, student = make_pair()
    got = measure(student, write_dataset(tmp_path / "data", teacher, "none", "logits"))
    merged_actions.cache_clear()
    assert got.merged_action_error == got.action_error > 0


def test_real_labels_and_a_real_teacher(pong_data: Path, make_config: Callable[..., Config]) -> None:
    """The collector's labels of Pong, stored or asked for afresh: the teacher agrees with itself."""
    dataset, teacher = Dataset(pong_data), load_teacher("pong")
    index = np.arange(0, len(dataset), 20)
    config: Any = make_config().objective
    engine = Engine(teacher.net.path())
    for loader in (Loader(dataset, config, CPU, 0, None), Loader(dataset, config, CPU, 0, teacher)):
        got = fidelity(teacher.net, engine, loader, index, 1.0)
        assert got.kl == pytest.approx(0, abs=1e-5)
        assert got.action_error == 0
        assert got.jacobian_cosine is not None
        assert got.jacobian_cosine > 0.999


def test_input_gradient_without_and_with_an_engine() -> None:
    net = make_net(0)
    x = torch.rand(3, 4, 84, 84)
    seed = cotangent("logits", net(x), torch.randn(3, ACTIONS))
    with torch.no_grad():
        plain = input_gradient(net, None, x, seed)
    assert plain.shape == (3, 4, 84, 84)
    torch.testing.assert_close(input_gradient(net, Engine(net.path()), x, seed), plain)
