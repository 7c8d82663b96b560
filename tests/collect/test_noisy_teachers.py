"""A teacher that draws noise at play: its labels are of one draw each, and are not asked for again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.collect.games import Drawn
from distill.collect.label import Labeller
from distill.collect.order import identify, make_order
from distill.collect.scribe import Notes
from distill.collect.settings import CollectRun
from distill.collect.verify import verify
from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.codec import decode
from distill.dataset.reader import Dataset
from distill.envs.presets import get_preset
from distill.networks.nets import AtariCNN, NetSpec, to_unit
from distill.networks.parts import draws_from
from distill.students.folder import save_student
from distill.system.settings import part
from distill.system.streams import torch_generator
from distill.task import Task
from teachers.load import load_teacher

SB3 = get_preset("sb3")
TASK = Task("pong", "sb3", SB3.hash, 6)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    net = AtariCNN(NetSpec(((4, 8, 4),), (8,), noise="white"), 6)
    with torch.no_grad():
        net.policy.weight.mul_(100)
        for module in (net.features[0], net.features[3]):
            module.noise.alpha.fill_(2.0)  # type: ignore[union-attr,operator]
    save_student(tmp_path / "teacher", net, TASK)
    return tmp_path / "teacher"


def test_derivatives_are_of_the_draw_that_the_logits_are_of(teacher: Path, make_config: Callable[..., Config]) -> None:
    loaded = load_teacher(str(teacher))
    full = {"jacobian": "full", "codec": "fp16"}
    identity = identify(part(make_config(env="pong", teacher=str(teacher), collect=full), CollectRun), loaded)
    labeller = Labeller.of(loaded, identity, torch.device("cpu"))
    notes, generator = Notes(labeller, labeller.policy), np.random.default_rng(0)
    steps = [generator.integers(0, 256, (2, 4, 84, 84), dtype=np.uint8) for _ in range(3)]
    drawn = Drawn(np.zeros((2, 0), np.float32), np.ones(2, np.bool_))
    for obs in steps:
        labeller.policy.logits(obs)
        notes.see(obs, np.ones(2, np.bool_), drawn)
    notes.label()
    found = [(labels.logits, decode(labels.jacobian, "fp16")) for labels in notes.labels if labels.jacobian is not None]
    logits, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    with draws_from(torch_generator("noise at play", 0)):
        for number, obs in enumerate(steps):
            x = to_unit(torch.from_numpy(obs)).requires_grad_()
            want = loaded.net(x)
            mine = slice(2 * number, 2 * number + 2)
            np.testing.assert_allclose(logits[mine], want.detach(), rtol=1e-4, atol=1e-4)
            for action in range(6):
                (slope,) = torch.autograd.grad(want[:, action].sum(), x, retain_graph=True)
                off = np.linalg.norm(rows[mine, action] - slope.numpy()) / np.linalg.norm(slope)
                assert off < 0.01


@pytest.mark.parametrize("noise_on", ["weights", "activations"])
def test_the_same_collection_gives_the_same_labels_and_is_verified_but_for_them(
    noise_on: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    spec = NetSpec(((4, 8, 4),), (8,), noise="white", noise_on=noise_on)
    save_student(tmp_path / "teacher", AtariCNN(spec, 6), TASK)
    digests = []
    for name in ("one", "two"):
        torch.rand(3)  # PyTorch's own stream has no part in it
        settings: dict[str, Any] = {"states": 96, "num_envs": 2, "shard_states": 48, "out": str(tmp_path / name)}
        collect(make_config(env="pong", teacher=str(tmp_path / "teacher"), collect=settings))
        digests.append(Dataset(tmp_path / name).digest)
    assert digests[0] == digests[1]
    verdict = verify(tmp_path / "one", load_teacher(str(tmp_path / "teacher")))
    assert (verdict.states, verdict.sampled) == (96, 0)
    assert verdict.note == "no labels compared: the teacher draws noise at play"


def test_halves_and_continued_collections_draw_their_own_noise(
    teacher: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    settings = {"out": str(tmp_path / "data")}
    order = make_order(part(make_config(env="pong", teacher=str(teacher), collect=settings), CollectRun))
    actors, obs = order.actors(torch.device("cpu")), np.full((2, 4, 84, 84), 90, np.uint8)
    first, again, second = (actors(number).policy.logits(obs) for number in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
