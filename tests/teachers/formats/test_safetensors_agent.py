"""Agents of other libraries, as plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from distill.cli.export import export
from distill.config.which_game import which_game
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec, net_spec
from distill.students.folder import load_student, save_student
from distill.task import Task
from teachers.formats.safetensors_agent import load_safetensors
from teachers.load import agent_game, load_teacher

State = dict[str, torch.Tensor]
Save = Callable[..., Path]


def plain(net: AtariCNN) -> State:
    """A network's tensors under this format's names."""
    convs = len(net.spec.convs)
    state: State = {}
    for name, tensor in net.state_dict().items():
        layer, part = name.rsplit(".", 1)
        if layer.startswith("features."):
            place = int(layer.removeprefix("features."))
            layer = f"convs.{place // 2}" if place < 2 * convs else f"dense.{(place - 1) // 2 - convs}"
        state[f"{layer}.{part}"] = tensor.clone()
    return state


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """``save("x.safetensors", tensors, card="game: pong", metadata=...)``."""

    def write(name: str, tensors: State, card: str | None = None, metadata: dict[str, str] | None = None) -> Path:
        path = tmp_path / name
        save_file(tensors, path, metadata)
        if card is not None:
            path.with_suffix(".md").write_text(f"---\n{card}\n---\n# An agent\n")
        return path

    return write


@pytest.fixture(scope="module")
def bundled() -> AtariCNN:
    return load_teacher("breakout").net


def test_a_bundled_agent_as_plain_tensors_is_the_same_agent(save: Save, bundled: AtariCNN, obs: np.ndarray) -> None:
    path = save("breakout-a3c.safetensors", plain(bundled), "algorithm: A3C\npreset: async-rl")
    teacher, want = load_teacher(str(path)), load_teacher("breakout")
    assert teacher.net.spec == bundled.spec
    assert teacher.info.fingerprint == want.info.fingerprint
    assert (teacher.info.game, teacher.info.algorithm, teacher.info.preset) == ("breakout", "A3C", "async-rl")
    x = torch.from_numpy(obs) / 255
    for mine, theirs in zip(teacher.logits_and_value(x), want.logits_and_value(x), strict=True):
        assert mine is not None
        assert theirs is not None
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert agent_game(str(path)) == ("breakout", "its file name")


def test_its_preset_is_its_cards_else_the_recorded_one(save: Save, bundled: AtariCNN) -> None:
    told, silent = (str(save(f"breakout-{n}.safetensors", plain(bundled), card)) for n, card in
                    (("a", "preset: async-rl"), ("b", None)))  # fmt: skip
    assert load_teacher(told, recorded="sb3-fast").info.preset == "async-rl"
    assert load_teacher(told, recorded="sb3-fast", preset="sb3").info.preset == "sb3"
    assert load_teacher(silent, recorded="sb3-fast").info.preset == "sb3-fast"
    assert load_teacher(silent).info.preset == "sb3"
    assert load_teacher(silent).info.algorithm == "actor-critic"


@pytest.mark.parametrize("name", ["mnih2013", "nature"])
@pytest.mark.parametrize("value", [True, False])
def test_known_trunks_need_no_strides(save: Save, name: str, value: bool) -> None:
    net = AtariCNN(net_spec(name), 6, value=value)
    policy = load_safetensors(save("x.safetensors", plain(net)), {})
    assert policy.net.spec == net.spec
    assert (policy.net.value is not None) == value
    assert policy.num_actions == 6


ODD = NetSpec(((8, 6, 3), (8, 5, 2)), (32, 16))


@pytest.mark.parametrize(
    ("metadata", "card"),
    [({"strides": "[3, 2]"}, {}), ({"strides": "3,2"}, {}), (None, {"strides": [3, 2]}), (None, {"strides": "3, 2"})],
)
def test_strides_are_told_by_metadata_or_card(
    save: Save, obs: np.ndarray, metadata: dict[str, str] | None, card: dict[str, Any]
) -> None:
    net = AtariCNN(ODD, 4)
    policy = load_safetensors(save("x.safetensors", plain(net), metadata=metadata), card)
    assert policy.net.spec == ODD
    x = torch.from_numpy(obs) / 255
    torch.testing.assert_close(policy.net(x), net(x), rtol=0, atol=0)


def test_strides_on_the_card_beside_the_file(save: Save) -> None:
    path = save("pong-odd.safetensors", plain(AtariCNN(ODD, 6)), "strides: [3, 2]")
    assert load_teacher(str(path)).net.spec == ODD


def without(*names: str) -> Callable[[State], State]:
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


def edited(**changes: Any) -> Callable[[State], State]:
    return lambda state: state | {name.replace("_", "."): tensor for name, tensor in changes.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("policy.weight"), "is not an agent of this format, which has convs.N, dense.N, policy and value"),
        (without("policy.bias"), "policy lacks its weight or bias"),
        (without("value.bias"), "value lacks its weight or bias"),
        (without("convs.0.weight", "convs.0.bias"), r"layers convs are \[1\], but must be 0, 1"),
        (without("convs.0.weight", "convs.0.bias", "convs.1.weight", "convs.1.bias"), r"layers convs are \[\]"),
        (without("dense.0.weight", "dense.0.bias"), "its shapes do not fit 4 stacked 84x84 frames"),
        (edited(lstm_weight=torch.zeros(3)), "it has lstm.weight"),
        (edited(policy_bias=torch.full((4,), float("nan"))), r"hold NaN or Inf \(policy.bias\)"),
        (edited(policy_bias=torch.zeros(4, dtype=torch.int32)), "policy.bias in the file is not an array of floats"),
        (edited(policy_bias=torch.full((4,), 1e300, dtype=torch.float64)), r"hold NaN or Inf \(policy.bias\)"),
        (edited(policy_bias=torch.zeros(5)), r"policy has a weight of shape \(4, 256\) and a bias of \(5,\)"),
        (edited(dense_0_weight=torch.zeros(256, 9)), "its shapes do not fit 4 stacked 84x84 frames"),
    ],
)
def test_other_contents_are_refused_in_one_sentence(save: Save, change: Callable[[State], State], message: str) -> None:
    path = save("x.safetensors", change(plain(AtariCNN(net_spec("mnih2013"), 4, value=True))))
    with pytest.raises(UserError, match=message) as error:
        load_safetensors(path, {})
    assert "\n" not in str(error.value)


def test_an_exported_student_is_told_from_an_agent(tmp_path: Path) -> None:
    save_student(tmp_path / "run", AtariCNN(net_spec("mnih2013"), 4), Task("breakout", "sb3", "739e34ec987e", 4))
    export(load_student(tmp_path / "run"), "safetensors", tmp_path / "x.safetensors")
    with pytest.raises(
        UserError, match=r"x\.safetensors holds a student's weights alone, as .*; give the student's run"
    ):
        load_teacher(str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_kind_of_float_is_read(save: Save, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in plain(AtariCNN(net_spec("mnih2013"), 4)).items()}
    net = load_safetensors(save("x.safetensors", state), {}).net
    assert net.state_dict()["policy.weight"].equal(state["policy.weight"].float())


@pytest.mark.parametrize("strides", ["[3]", "fast", "[3, 0]", "[3, -2]", 2, "3.0, 2", "nan", ""])
def test_strides_that_are_none_are_refused(save: Save, strides: Any) -> None:
    path = save("x.safetensors", plain(AtariCNN(ODD, 4)))
    with pytest.raises(UserError, match="strides must be 2 positive numbers"):
        load_safetensors(path, {"strides": strides})


def test_unknown_trunk_without_strides_is_not_guessed(save: Save) -> None:
    path = save("x.safetensors", plain(AtariCNN(ODD, 4)))
    with pytest.raises(UserError, match=r"nothing tells the strides .* its card x.md"):
        load_safetensors(path, {})


def test_files_that_are_no_safetensors(tmp_path: Path) -> None:
    for name, content in (("a", b""), ("b", b"\xff" * 64), ("c", b"PK\x03\x04")):
        path = tmp_path / f"pong-{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a readable safetensors file"):
            load_teacher(str(path))


def test_another_number_of_actions(save: Save, bundled: AtariCNN) -> None:
    path = save("agent.safetensors", plain(bundled), "game: pong")
    with pytest.raises(UserError, match="chooses among 4 actions but pong has 6"):
        load_teacher(str(path))


def test_our_own_students_weights_mean_the_student(tmp_path: Path) -> None:
    from distill.envs.presets import get_preset

    net = AtariCNN(NetSpec(((4, 8, 4),), (8,)), 6)
    sb3 = get_preset("sb3")
    save_student(tmp_path / "student", net, Task("pong", "sb3", sb3.hash, 6))
    info = load_teacher(str(tmp_path / "student" / "model.safetensors")).info
    assert (info.game, info.algorithm) == ("pong", "student")


def test_a_game_that_nothing_tells_is_asked_for(save: Save, bundled: AtariCNN, make_config: Any) -> None:
    path = save("agent.safetensors", plain(bundled))
    with pytest.raises(UserError, match=r"cannot tell which game .*agent.safetensors plays; name it with --env"):
        load_teacher(str(path))
    assert load_teacher(str(path), game="breakout").info.game == "breakout"
    assert which_game(make_config(env="breakout", teacher=str(path)), "collect").game == "breakout"
