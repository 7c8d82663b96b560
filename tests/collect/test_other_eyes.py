"""A teacher that sees another preset than the one that is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.agents.actor import Actor, Policy
from distill.collect.verify import verify
from distill.config.config import Config
from distill.config.stages import collect, evaluate, train
from distill.dataset.reader import Dataset
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import PRESETS, get_preset
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec
from distill.students.folder import load_student, save_student
from distill.task import Task
from teachers.load import load_teacher

MakeConfig = Callable[..., Config]
OTHER = {"env": "breakout", "teacher": "breakout", "teacher_preset": "async-rl", "preset": "sb3"}
QUICK = {"states": 400, "num_envs": 2, "shard_states": 90, "jacobian": "none"}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained student of what is recorded."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    net = AtariCNN(NetSpec(((4, 8, 4),), (8,)), 4)
    save_student(folder / "student", net, Task("breakout", "sb3", get_preset("sb3").hash, 4))
    return folder


def shown(
    make_config: MakeConfig, out: Path, **settings: Any
) -> tuple[Dataset, dict[bytes, np.ndarray], dict[bytes, set[bytes]]]:
    """A dataset, for every recorded stack the teacher's of that moment, and what each network acted on."""
    pairs: dict[bytes, np.ndarray] = {}
    saw: dict[bytes, set[bytes]] = {}
    act, logits = Actor.act, Policy.logits

    def seen_act(actor: Actor, obs: np.ndarray, chance: Any, second: np.ndarray | None = None) -> np.ndarray:
        assert second is not None
        pairs.update((one.tobytes(), other.copy()) for one, other in zip(obs, second, strict=True))
        return act(actor, obs, chance, second)

    def seen_logits(policy: Policy, obs: np.ndarray) -> torch.Tensor:
        saw.setdefault(bytes(str(policy.net.spec), "ascii"), set()).update(one.tobytes() for one in obs)
        return logits(policy, obs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Actor, "act", seen_act)
        patch.setattr(Policy, "logits", seen_logits)
        collect(make_config(**OTHER, collect={**QUICK, "out": str(out), **settings}))
    return Dataset(out, verify=True), pairs, saw


def check_labels(dataset: Dataset, pairs: dict[bytes, np.ndarray]) -> None:
    """Frames on disk are the recorded preset's; logits and values are the teacher's on its own stacks."""
    stacks = dataset.stacks(np.arange(len(dataset)))
    assert all(stack.tobytes() in pairs for stack in stacks)
    own = np.stack([pairs[stack.tobytes()] for stack in stacks])
    differs = (own != stacks).any((1, 2, 3))
    assert differs.mean() > 0.9
    with torch.no_grad():
        logits, value = load_teacher("breakout").logits_and_value(torch.from_numpy(own) / 255)
        blind = load_teacher("breakout")(torch.from_numpy(stacks) / 255)
    assert value is not None
    np.testing.assert_allclose(dataset.logits, logits.numpy(), atol=2e-4)
    np.testing.assert_allclose(dataset.value, value.numpy(), atol=2e-4)
    assert np.abs(dataset.logits - blind.numpy()).max() > 0.1


@pytest.fixture(scope="module")
def recorded(
    make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, dict[bytes, np.ndarray], dict[bytes, set[bytes]]]:
    out = tmp_path_factory.mktemp("eyes") / "data"
    return shown(make_config, out, behaviour="epsilon", epsilon=0.7)  # lives and games are lost


def test_a_teacher_acts_on_and_labels_its_own_stacks(recorded: Any) -> None:
    dataset, pairs, saw = recorded
    check_labels(dataset, pairs)
    own = {other.tobytes() for other in pairs.values()}
    assert set.union(*saw.values()) == own
    assert len(dataset.shards) == 5, "states that were played for a later shard kept both stacks"


def test_what_is_recorded_does_not_depend_on_the_teachers_eyes(make_config: MakeConfig, tmp_path: Path) -> None:
    """Under actions that are drawn whatever anyone sees, both record the same games, frame by frame."""
    random = {**QUICK, "behaviour": "epsilon", "epsilon": 1.0}
    data = []
    for teacher_preset in ("async-rl", "sb3"):
        out = tmp_path / teacher_preset
        top = {**OTHER, "teacher_preset": teacher_preset}
        collect(make_config(**top, collect={**random, "out": str(out)}))
        data.append(Dataset(out))
    for name in ("frames", "pos", "episode", "t", "action"):
        np.testing.assert_array_equal(getattr(data[0], name), getattr(data[1], name), err_msg=name)
    fresh = ~data[0].stacks(np.arange(400))[:, :-1].any((1, 2, 3))
    assert fresh.sum() > 8, "zeroed after lost lives, as sb3 is"
    assert not np.allclose(data[0].logits, data[1].logits, atol=0.1)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_a_student_acts_on_what_is_recorded(
    make_config: MakeConfig, student: Path, tmp_path: Path, beta: float
) -> None:
    settings = {"actor": str(student), "beta": beta, "states": 200}
    dataset, pairs, saw = shown(make_config, tmp_path / "data", **settings)
    check_labels(dataset, pairs)
    mine = saw[bytes(str(load_student(student).net.spec), "ascii")]
    assert mine == set(pairs)
    theirs = saw.get(bytes(str(load_teacher("breakout").net.spec), "ascii"), set())
    assert theirs == ({other.tobytes() for other in pairs.values()} if beta else set())


def test_both_presets_stand_in_the_data(recorded: Any) -> None:
    dataset = recorded[0]
    identity = dataset.identity
    assert (identity.preset, identity.teacher_preset) == ("sb3", "async-rl")
    assert (identity.preset_hash, identity.teacher_preset_hash) == tuple(PRESETS[n].hash for n in ("sb3", "async-rl"))
    assert not identity.same_eyes
    assert dataset.manifest.teacher["preset"] == "async-rl"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, r"teacher breakout sees preset async-rl and sb3 is recorded, .*use --collect.jacobian=none"),
        (
            {"preset": "sb3-fast"},
            r"preset async-rl sees colour screens, and preset sb3-fast has only screens that were",
        ),
        ({"teacher_preset": "sb3-fast"}, r"preset sb3-fast sees screens that were gray .* sb3 has only colour screens"),
        ({"teacher_preset": None, "preset": "sb3-fast"}, r"--teacher_preset=sb3-fast that the teacher sees those all"),
        ({"teacher_preset": "asink"}, "unknown preset 'asink'"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_anything_is_there(
    make_config: MakeConfig, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        collect(make_config(**{**OTHER, **changed}, collect={"states": 8, "out": str(tmp_path / "data")}))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_the_other_preset_can_be_forced_on_the_teacher(make_config: MakeConfig, tmp_path: Path) -> None:
    both = {"env": "breakout", "teacher_preset": "sb3-fast", "preset": "sb3-fast"}
    collect(make_config(**both, collect={"states": 8, "num_envs": 2, "out": str(tmp_path / "data")}))
    identity = Dataset(tmp_path / "data").identity
    assert identity.same_eyes
    assert identity.preset == identity.teacher_preset == "sb3-fast"
    assert "teacher_preset" not in json.loads((tmp_path / "data" / "dataset.json").read_text())["identity"]


def test_verify_checks_what_it_can_and_says_what_not(recorded: Any) -> None:
    verdict = verify(recorded[0].folder, load_teacher("breakout", preset="async-rl"))
    assert (verdict.states, verdict.sampled, verdict.logit_error) == (400, 0, None)
    assert verdict.note == "no labels compared: the teacher saw preset async-rl, recorded is sb3"
    with pytest.raises(UserError, match="was labelled by"):
        verify(recorded[0].folder, load_teacher("pong"))


@pytest.mark.parametrize("action", [-1, 4])
def test_verify_refuses_actions_out_of_range(recorded: Any, monkeypatch: pytest.MonkeyPatch, action: int) -> None:
    read = Dataset.__init__

    def damaged(self: Dataset, *args: Any, **kwargs: Any) -> None:
        read(self, *args, **kwargs)
        self.action[7] = action

    monkeypatch.setattr(Dataset, "__init__", damaged)
    with pytest.raises(UserError, match=rf"state 7 has action {action}, not one of 0\.\.3"):
        verify(recorded[0].folder, load_teacher("breakout"))


def runs(make_config: MakeConfig, recorded: Any, out: Path, **objective: Any) -> Config:
    train_config = {"data": str(recorded[0].folder), "out": str(out), "steps": 2, "batch_size": 16}
    return make_config(env="breakout", objective={"jacobian_weight": 0.0, **objective}, train=train_config)


@pytest.mark.parametrize(
    "objective",
    [{"jacobian_weight": 1.0}, {"jacobian_weight": 1.0, "jacobian_targets": "online"}, {"input_noise": 2.0}],
)
def test_training_does_not_ask_a_teacher_that_sees_something_else(
    make_config: MakeConfig, recorded: Any, tmp_path: Path, objective: dict[str, Any]
) -> None:
    flag = "input_noise" if "input_noise" in objective else "jacobian_weight"
    says = rf"records preset sb3 and its teacher saw async-rl, .*set --objective\.{flag} to 0"
    with pytest.raises(UserError, match=says):
        train(runs(make_config, recorded, tmp_path / "run", **objective))


def test_a_student_and_its_teacher_play_each_on_its_own_preset(
    make_config: MakeConfig, recorded: Any, tmp_path: Path
) -> None:
    run = train(runs(make_config, recorded, tmp_path / "run"))
    student = load_student(run)
    assert (student.task.preset, student.training.teacher_preset) == ("sb3", "async-rl")
    assert student.training.teacher_preset_hash == PRESETS["async-rl"].hash
    used: list[str] = []
    init = AtariVec.__init__

    def seen(self: AtariVec, game: str, lanes: int, preset: Any, **kwargs: Any) -> None:
        used.append(preset.name)
        init(self, game, lanes, replace(preset, max_frames=200), **kwargs)

    def scores(agents: Sequence[str], out: str, **top: Any) -> dict[str, Any]:
        settings = {"agents": list(agents), "games": 1, "num_envs": 1, "out": str(tmp_path / out)}
        return evaluate(replace(make_config(env="breakout", evaluate=settings), teacher="", **top))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtariVec, "__init__", seen)
        for number, who in enumerate(("teacher", "teacher=breakout")):  # as the papers say, and known by its weights
            used.clear()
            record = scores([who, f"small={run}"], str(number))
            assert used == ["async-rl", "sb3"]
            assert {name: entry["preset"] for name, entry in record["agents"].items()} == {
                "teacher": "async-rl", "small": "sb3",
            }  # fmt: skip
            assert record["preset"] == "async-rl (teacher), sb3 (small)"
        used.clear()
        record = scores(["teacher", f"small={run}"], "forced", preset="sb3")
        assert used == ["sb3", "sb3"]
        assert record["preset"] == "sb3"
        assert "preset" not in record["agents"]["teacher"]
    with pytest.raises(UserError, match=r"these agents see different presets \(sb3, sb3-fast\)"):
        scores(["teacher", f"small={run}"], "third", teacher_preset="sb3-fast")
