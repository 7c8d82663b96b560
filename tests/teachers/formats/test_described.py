"""What an SB3 zip says of its network in plain text: rebuilt to the same logits, or refused by the field's name."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from distill.errors import UserError
from distill.networks.layers.layer import known
from distill.networks.nets import NetSpec, to_unit
from teachers.formats.described import Described, describe, extra_activation
from teachers.formats.sb3 import load_sb3_zip

Agent = tuple[BaseAlgorithm, Path]
Rezip = Callable[..., Path]
ACTIVATIONS: dict[type[nn.Module] | None, str | None] = {None: "tanh", nn.ReLU: None, nn.Softplus: "softplus"}


class NatureCNNElu(NatureCNN):
    """A namesake by its ending, with another activation."""


class Named(NatureCNN):
    pass


Named.__name__ = Named.__qualname__ = "NatureCNN"


class OwnPolicy(ActorCriticCnnPolicy):
    pass


class Space(gymnasium.Env[Any, np.int64]):
    """An environment with any observation space."""

    def __init__(self, observation_space: gymnasium.Space[Any], actions: int = 6, start: int = 0) -> None:
        self.observation_space = observation_space
        self.action_space = gymnasium.spaces.Discrete(actions, start=start)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}

    def action_masks(self) -> np.ndarray:
        return np.ones(6, bool)


def box(*shape: int, dtype: Any = np.uint8, high: float = 255) -> gymnasium.Space[Any]:
    return gymnasium.spaces.Box(0, high, shape, dtype)


STACK = box(4, 84, 84)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """``save(PPO, "CnnPolicy", space)``: the zip of a fresh agent."""

    def make(kind: Any, policy: Any, space: gymnasium.Space[Any] = STACK, start: int = 0, **kwargs: Any) -> Path:
        options: dict[str, Any] = {"buffer_size": 1} if kind is DQN else {"n_steps": 2, "batch_size": 2}
        model = kind(policy, Space(space, start=start), device="cpu", policy_kwargs=kwargs or None, **options)
        path = tmp_path / "agent.zip"
        model.save(path)
        return path

    return make


# -- extra dense layers ---------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "net_arch",
    [[64], [16, 8], {"pi": [32], "vf": []}, {"pi": [24], "vf": [48, 8]}, [{"pi": [12], "vf": [12]}]],
    ids=str,
)
def test_actors_with_extra_layers_equal_sb3(
    make_agent: Any, obs: np.ndarray, net_arch: Any, activation: type[nn.Module] | None
) -> None:
    kwargs = {} if activation is None else {"activation_fn": activation}
    model, path = make_agent("ppo", net_arch=net_arch, **kwargs)
    policy = load_sb3_zip(path)
    with torch.no_grad():
        logits, value = policy.net.logits_and_value(to_unit(torch.from_numpy(obs)))
        expected = model.policy.get_distribution(model.policy.obs_to_tensor(obs)[0]).distribution.logits
    assert expected.exp().std() > 0.05
    torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-5, rtol=0)
    assert value is None
    assert policy.net.spec.extra_activation == ACTIVATIONS[activation]
    assert known(policy.net.path())  # the engine that needs no double backward still takes it


@pytest.mark.parametrize("algorithm", ["dqn", "qrdqn"])
@pytest.mark.parametrize("activation", [None, nn.Tanh])
def test_q_values_with_extra_layers_equal_sb3(
    make_agent: Any, obs: np.ndarray, algorithm: str, activation: type[nn.Module] | None
) -> None:
    kwargs = {} if activation is None else {"activation_fn": activation}
    model, path = make_agent(algorithm, net_arch=[64, 16], **kwargs)
    with torch.no_grad():
        logits = load_sb3_zip(path, 1.0).net(to_unit(torch.from_numpy(obs)))
        tensor = model.policy.obs_to_tensor(obs)[0]
        expected = model.policy.q_net(tensor) if algorithm == "dqn" else model.policy.quantile_net(tensor).mean(1)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("net_arch", [[], [16]])
def test_separate_extractors_equal_sb3(make_agent: Any, obs: np.ndarray, net_arch: list[int]) -> None:
    model, path = make_agent("a2c", net_arch=net_arch, share_features_extractor=False)
    with torch.no_grad():
        logits, value = load_sb3_zip(path).net.logits_and_value(to_unit(torch.from_numpy(obs)))
        expected = model.policy.get_distribution(model.policy.obs_to_tensor(obs)[0]).distribution.logits
    torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-5, rtol=0)
    assert value is None


def test_layers_shared_before_sb3_1_8(make_agent: Any, obs: np.ndarray, rezip: Rezip, edit_weights: Any) -> None:
    """``net_arch=[64, dict(pi=[8], vf=[8])]``: 64 shared, then 8 each."""
    model, path = make_agent("ppo", net_arch=[64, 8])

    def share(weights: dict[str, torch.Tensor]) -> None:
        for part in ("weight", "bias"):
            weights[f"mlp_extractor.shared_net.0.{part}"] = weights.pop(f"mlp_extractor.policy_net.0.{part}")
            weights[f"mlp_extractor.policy_net.0.{part}"] = weights.pop(f"mlp_extractor.policy_net.2.{part}")

    old = edit_weights(path, share)
    data = json.loads(zipfile.ZipFile(path).read("data"))
    data["policy_kwargs"]["net_arch"] = [64, {"pi": [8], "vf": [8]}]
    old = rezip(old, {"data": json.dumps(data).encode()}, "old.zip")
    with torch.no_grad():
        logits = load_sb3_zip(old).net(to_unit(torch.from_numpy(obs)))
        expected = model.policy.get_distribution(model.policy.obs_to_tensor(obs)[0]).distribution.logits
    torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-5, rtol=0)


def test_activation_that_is_not_told(make_agent: Any, rezip: Rezip) -> None:
    path = make_agent("ppo", net_arch=[16])[1]
    for data in (None, b"{}", b"[]"):
        with pytest.raises(UserError, match=r"extra dense layers \(net_arch\).* `data` .* is missing or damaged"):
            load_sb3_zip(rezip(path, {"data": data}))


def test_activation_that_we_do_not_have(make_agent: Any) -> None:
    with pytest.raises(UserError, match=r"its activation_fn is ELU; .*only .*ReLU.* are supported"):
        load_sb3_zip(make_agent("ppo", net_arch=[16], activation_fn=nn.ELU)[1])
    assert load_sb3_zip(make_agent("ppo", activation_fn=nn.ELU)[1]).num_actions == 6  # no layer has it


def test_an_activation_of_the_same_name_from_elsewhere() -> None:
    kwargs = {"net_arch": [16], "activation_fn": "<class 'mine.ReLU'>"}
    described = describe(Path("x.zip"), {"policy_kwargs": kwargs})
    with pytest.raises(UserError, match=r"its activation_fn is <class 'mine\.ReLU'>"):
        extra_activation(Path("x.zip"), described, (16,))


def test_net_arch_that_the_weights_do_not_have() -> None:
    with pytest.raises(UserError, match=r"net_arch tells of dense layers \[64\] but its weights hold \[32\]"):
        extra_activation(Path("x.zip"), Described(activation="ReLU", net_arch=(64,)), (32,))


def test_a_spec_of_an_earlier_version_has_one_activation() -> None:
    assert NetSpec.from_dict({"convs": [[4, 8, 4]], "hidden": [8, 8], "activation": "tanh"}).extra_activation is None


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extractor", "name"), [(NatureCNNElu, "NatureCNNElu"), (Named, r"\.NatureCNN")], ids=["subclass", "namesake"]
)
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_extractors_that_only_look_like_nature_cnn(make_agent: Any, algorithm: str, extractor: Any, name: str) -> None:
    path = make_agent(algorithm, net_arch=[], features_extractor_class=extractor)[1]
    with pytest.raises(UserError, match=rf"features extractor is .*{name}.*\(features_extractor_class\)"):
        load_sb3_zip(path)


def test_nature_cnn_given_by_hand(make_agent: Any, save: Callable[..., Path]) -> None:
    assert load_sb3_zip(make_agent("ppo", features_extractor_class=NatureCNN)[1]).num_actions == 6
    assert load_sb3_zip(save(PPO, "MlpPolicy", features_extractor_class=NatureCNN)).num_actions == 6


@pytest.mark.parametrize(
    ("kind", "policy", "space", "says"),
    [
        (
            PPO,
            "MlpPolicy",
            STACK,
            "policy_class is stable_baselines3.common.policies.ActorCriticPolicy; only CnnPolicy",
        ),
        (
            DQN,
            "MlpPolicy",
            STACK,
            r"policy_class is stable_baselines3\.dqn\.policies\.DQNPolicy; only CnnPolicy agents",
        ),
        (PPO, OwnPolicy, STACK, "policy_class is a class of .*, which is not supported: it may compute something else"),
        (RecurrentPPO, "CnnLstmPolicy", STACK, r"RecurrentActorCriticCnnPolicy.*it remembers what it saw \(LSTM\)"),
        (MaskablePPO, "CnnPolicy", STACK, "MaskableActorCriticCnnPolicy.*a mask of allowed actions"),
        (PPO, "MultiInputPolicy", gymnasium.spaces.Dict({"a": STACK}), "MultiInputActorCriticPolicy; only CnnPolicy"),
        (PPO, "CnnPolicy", box(3, 84, 84), "observation_space is RGB 3x84x84; agents here see four gray 84x84"),
        (PPO, "CnnPolicy", box(84, 84, 3), "observation_space is RGB 3x84x84"),
        (DQN, "CnnPolicy", box(1, 84, 84), "observation_space is 1x84x84"),
        (PPO, "CnnPolicy", box(4, 96, 96), "observation_space is 4x96x96"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value))[:30],
)
def test_agents_of_other_kinds(save: Callable[..., Path], kind: Any, policy: Any, space: Any, says: str) -> None:
    with pytest.raises(UserError, match=rf"agent\.zip: its .*{says}"):
        load_sb3_zip(save(kind, policy, space))


@pytest.mark.parametrize("value", [0, None, {":type:": "<class 'numpy.bool'>", ":serialized:": "gAWV"}])
def test_pixels_that_are_not_scaled_are_refused_however_that_is_told(value: Any) -> None:
    with pytest.raises(UserError, match=r"normalize_images=(False|a value that its plain text does not tell), so it"):
        describe(Path("x.zip"), {"policy_kwargs": {"normalize_images": value}})
    assert describe(Path("x.zip"), {"policy_kwargs": {"normalize_images": 1}}).actions is None


def test_float_observations(save: Callable[..., Path]) -> None:
    path = save(PPO, "CnnPolicy", box(4, 84, 84, dtype=np.float32, high=1.0), normalize_images=False)
    with pytest.raises(UserError, match="normalize_images=False"):
        load_sb3_zip(path)
    data = json.loads(zipfile.ZipFile(path).read("data"))
    data["policy_kwargs"] = {}
    with pytest.raises(UserError, match="observation_space has dtype float32"):
        describe(path, data)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"use_sde": True}, "use_sde=True"),
        ({"policy_kwargs": {"squash_output": True}}, "squash_output=True"),
        ({"action_space": {":type:": "<class 'gymnasium.spaces.box.Box'>"}}, "action_space is a Box"),
        ({"action_space": {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", "start": "1"}}, "starts at 1"),
        (
            {"observation_space": {":type:": "<class 'gym.spaces.box.Box'>", "high": "[[[1 1 ... 1]]]"}},
            "high 1, not 255",
        ),
        ({"observation_space": {":type:": "<class 'gym.spaces.box.Box'>", "low": "[-1. -1.]"}}, "low -1, not 0"),
        ({"observation_space": {":type:": "<class 'gym.spaces.dict.Dict'>"}}, "observation_space is a Dict"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_fields_that_cannot_be_played(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=rf"x\.zip: .*{says}"):
        describe(Path("x.zip"), fields)


def test_fields_that_tell_nothing() -> None:
    for fields in (
        {},
        {"policy_class": "CnnPolicy"},
        {"observation_space": 3, "action_space": [], "policy_kwargs": None},
    ):
        assert describe(Path("x.zip"), fields) == Described()


def test_trpo_is_an_actor_like_ppo(save: Callable[..., Path], obs: np.ndarray, tmp_path: Path) -> None:
    model = TRPO("CnnPolicy", Space(STACK), device="cpu", n_steps=2, batch_size=2)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)
    model.save(tmp_path / "trpo.zip")
    policy = load_sb3_zip(tmp_path / "trpo.zip")
    assert policy.algorithm == "TRPO"
    with torch.no_grad():
        logits = policy.net(to_unit(torch.from_numpy(obs)))
        expected = model.policy.get_distribution(model.policy.obs_to_tensor(obs)[0]).distribution.logits
    torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-5, rtol=0)


# -- compiled policies, and files that would take too much ----------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "rename"),
    [
        ("ppo", lambda name: f"_orig_mod.{name}"),
        ("ppo", lambda name: name.replace("features_extractor.", "features_extractor._orig_mod.")),
        ("dqn", lambda name: name.replace("q_net.", "q_net._orig_mod.", 1)),
        ("qrdqn", lambda name: f"_orig_mod.{name.replace('cnn.', 'cnn._orig_mod.')}"),
    ],
)
def test_weights_of_compiled_policies(
    make_agent: Any, edit_weights: Any, obs: np.ndarray, algorithm: str, rename: Callable[[str], str]
) -> None:
    path = make_agent(algorithm)[1]

    def compiled(weights: dict[str, torch.Tensor]) -> None:
        renamed = {rename(name): weights[name] for name in list(weights)}
        weights.clear()
        weights.update(renamed)

    x = to_unit(torch.from_numpy(obs))
    assert torch.equal(load_sb3_zip(edit_weights(path, compiled)).net(x), load_sb3_zip(path).net(x))


def test_two_parameters_of_one_name(ppo: Agent, edit_weights: Any) -> None:
    path = edit_weights(ppo[1], lambda w: w.update({"_orig_mod.action_net.bias": torch.zeros(6)}))
    with pytest.raises(UserError, match=r"two parameters called action_net\.bias"):
        load_sb3_zip(path)


@pytest.mark.parametrize("part", ["{},", "[],", "0,", '{"a":[1]},'])
def test_data_of_many_values_is_not_parsed(
    ppo: Agent, rezip: Rezip, part: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = f'{{"x": [{part * 600_000}0]}}'.encode()
    path = rezip(ppo[1], {"data": data})

    def parse(text: bytes) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("teachers.formats.archive.json.loads", parse)
    assert load_sb3_zip(path).num_actions == 6
    assert "far larger than stable-baselines3 writes" in caplog.text


@pytest.mark.parametrize("data", [None, b"", b"null", b"[1]", b'{"policy_class"', b"\xff\xfe"])
def test_data_that_tells_nothing_is_said(
    ppo: Agent, rezip: Rezip, data: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_sb3_zip(rezip(ppo[1], {"data": data})).num_actions == 6
    (record,) = caplog.records
    assert "its data is missing, damaged or far larger" in record.message


@pytest.mark.parametrize("net_arch", [[64], {"pi": [64], "vf": []}, [64, {"pi": []}]])
def test_layers_that_only_net_arch_has(ppo: Agent, rezip: Rezip, net_arch: Any) -> None:
    with zipfile.ZipFile(ppo[1]) as archive:
        fields = json.loads(archive.read("data"))
    fields["policy_kwargs"] = {"net_arch": net_arch}
    with pytest.raises(UserError, match=r"net_arch tells of dense layers \[64\] but its weights hold \[\]"):
        load_sb3_zip(rezip(ppo[1], {"data": json.dumps(fields).encode()}))


def test_list_of_weights_that_is_a_bomb(ppo: Agent, rezip: Rezip, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "policy", "w", zipfile.ZIP_DEFLATED) as records:
        records.writestr("archive/data.pkl", b"}" * 2**22)
    with pytest.raises(UserError, match="the list of its weights has 4 MiB; refusing it"):
        load_sb3_zip(rezip(ppo[1], {"policy.pth": (tmp_path / "policy").read_bytes()}))


def test_weights_in_the_old_format(ppo: Agent, rezip: Rezip) -> None:
    with zipfile.ZipFile(ppo[1]) as archive:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    buffer = io.BytesIO()
    torch.save(weights, buffer, _use_new_zipfile_serialization=False)
    assert load_sb3_zip(rezip(ppo[1], {"policy.pth": buffer.getvalue()})).num_actions == 6
    bomb = b"\x80\x02(" + b"}" * 600_000 + b"l."
    with pytest.raises(UserError, match="list of its weights has more than 500,000 parts"):
        load_sb3_zip(rezip(ppo[1], {"policy.pth": bomb}))
