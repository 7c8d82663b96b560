"""Zips made by the real stable-baselines3, read back by us; and every way such a file can be bad."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import json_to_data

from distill.errors import UserError
from distill.networks.nets import to_unit
from teachers.formats.format import LoadedPolicy
from teachers.formats.sb3 import load_sb3_zip
from teachers.load import bundled_teachers

Agent = tuple[Any, Path]  # an SB3 model and its zip
Edit = Callable[[Path, Callable[[dict[str, torch.Tensor]], Any]], Path]
Rezip = Callable[..., Path]


def ours(policy: LoadedPolicy, obs: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
    with torch.no_grad():
        return policy.net.logits_and_value(to_unit(torch.from_numpy(obs)))


def sb3_log_probs_and_value(model: Any, obs: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        tensor, _ = model.policy.obs_to_tensor(obs)
        logits = model.policy.get_distribution(tensor).distribution.logits
        return logits.log_softmax(-1), model.policy.predict_values(tensor)[:, 0]


def assert_same_actor(policy: LoadedPolicy, model: Any, obs: np.ndarray) -> None:
    logits, value = ours(policy, obs)
    expected, expected_value = sb3_log_probs_and_value(model, obs)
    assert expected.exp().std() > 0.05  # not a uniform policy, which any net would match
    torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-5, rtol=0)
    if value is not None:
        torch.testing.assert_close(value, expected_value, atol=1e-5, rtol=0)


# Agreement with stable-baselines3


@pytest.mark.parametrize(
    ("algorithm", "shape"), [("ppo", (84, 84, 4)), ("ppo", (4, 84, 84)), ("a2c", (84, 84, 4))], ids=str
)
def test_actor_critic_equals_sb3(make_agent: Any, obs: np.ndarray, algorithm: str, shape: tuple[int, ...]) -> None:
    model, path = make_agent(algorithm, shape=shape)
    policy = load_sb3_zip(path)
    assert (policy.algorithm, policy.num_actions, policy.tau) == ("PPO/A2C", 6, None)
    assert_same_actor(policy, model, obs)
    assert ours(policy, obs)[1] is not None
    actions, _ = model.predict(obs, deterministic=True)
    np.testing.assert_array_equal(ours(policy, obs)[0].argmax(-1).numpy(), actions)


@pytest.mark.parametrize("kwargs", [{"share_features_extractor": False}, {"net_arch": {"pi": [], "vf": [32]}}], ids=str)
def test_separate_critic_keeps_the_actor_and_drops_the_value(make_agent: Any, obs: np.ndarray, kwargs: Any) -> None:
    model, path = make_agent("ppo", **kwargs)
    policy = load_sb3_zip(path)
    assert_same_actor(policy, model, obs)
    assert ours(policy, obs)[1] is None


def test_zips_older_than_shared_extractors(ppo: Agent, obs: np.ndarray, edit_weights: Edit) -> None:
    def as_before_sb3_1_7(weights: dict[str, torch.Tensor]) -> None:
        for name in [n for n in weights if n.startswith(("pi_", "vf_"))]:
            del weights[name]

    policy = load_sb3_zip(edit_weights(ppo[1], as_before_sb3_1_7))
    assert_same_actor(policy, ppo[0], obs)
    assert ours(policy, obs)[1] is not None


@pytest.mark.parametrize("tau", [0.01, 1.0])
def test_dqn_logits_are_q_over_tau(make_agent: Any, obs: np.ndarray, tau: float) -> None:
    model, path = make_agent("dqn", actions=5)
    policy = load_sb3_zip(path, tau)
    logits, value = ours(policy, obs)
    with torch.no_grad():
        expected = model.policy.q_net(model.policy.obs_to_tensor(obs)[0])
    assert (policy.algorithm, policy.num_actions, policy.tau, value) == ("DQN", 5, tau, None)
    torch.testing.assert_close(logits * tau, expected, atol=1e-5, rtol=0)


def test_qrdqn_logits_are_mean_quantiles_over_tau(qrdqn: Agent, obs: np.ndarray) -> None:
    model, path = qrdqn
    policy = load_sb3_zip(path)
    logits, value = ours(policy, obs)
    with torch.no_grad():
        quantiles = model.policy.quantile_net(model.policy.obs_to_tensor(obs)[0])
    assert quantiles.shape == (8, 4, 6)
    assert (policy.algorithm, policy.num_actions, policy.tau, value) == ("QR-DQN", 6, 0.01, None)
    torch.testing.assert_close(logits * 0.01, quantiles.mean(1), atol=1e-5, rtol=0)
    actions, _ = model.predict(obs, deterministic=True)
    np.testing.assert_array_equal(logits.argmax(-1).numpy(), actions)


def test_derivatives_equal_sb3(ppo: Agent, obs: np.ndarray) -> None:
    """What Sobolev training matches: the input Jacobian, in units of pixels / 255."""
    model, path = ppo
    v = torch.tensor([0.5, -0.5, 0.5, -0.5, 0.3, -0.3])
    x = to_unit(torch.from_numpy(obs)).requires_grad_()
    raw = torch.from_numpy(obs).float().requires_grad_()
    (vjp,) = torch.autograd.grad((load_sb3_zip(path).net(x) @ v).sum(), x)
    logits = model.policy.get_distribution(raw).distribution.logits
    (expected,) = torch.autograd.grad((logits @ v).sum(), raw)
    torch.testing.assert_close(vjp, expected * 255, atol=1e-5, rtol=1e-4)


def test_bundled_pong_equals_sb3_on_real_frames() -> None:
    import ale_py
    import gymnasium
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

    gymnasium.register_envs(ale_py)
    path = bundled_teachers()["pong-ppo"]
    model = PPO.load(path, device="cpu")
    env: Any = VecTransposeImage(VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=2, seed=0), 4))
    seen = [env.reset()]
    for _ in range(60):
        seen.append(env.step(model.predict(seen[-1])[0])[0])
    env.close()
    frames = np.concatenate(seen[20::4])
    policy = load_sb3_zip(path)
    assert_same_actor(policy, model, frames)
    assert policy.num_actions == 6
    assert ours(policy, frames)[1] is not None


def test_loading_draws_no_random_numbers(ppo: Agent) -> None:
    before = torch.random.get_rng_state()
    load_sb3_zip(ppo[1])
    assert torch.equal(before, torch.random.get_rng_state())


# Hostile files


class WritesAFile:
    """A pickle that creates ``path`` when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "legacy format"])
def test_hostile_weights_are_refused_and_not_run(tmp_path: Path, ppo: Agent, rezip: Rezip, zipped: bool) -> None:
    proof = tmp_path / "executed"
    buffer = io.BytesIO()
    payload = {"action_net.weight": WritesAFile(proof)}
    torch.save(payload, buffer, _use_new_zipfile_serialization=zipped)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert proof.exists()  # the payload is live
    proof.unlink()
    with pytest.raises(UserError, match="more than plain weights, so it was not loaded"):
        load_sb3_zip(rezip(ppo[1], {"policy.pth": buffer.getvalue()}))
    assert not proof.exists()


@pytest.mark.parametrize("member", ["pytorch_variables.pth", "policy.optimizer.pth"])
def test_other_members_are_never_read(tmp_path: Path, ppo: Agent, rezip: Rezip, member: str) -> None:
    proof = tmp_path / "executed"
    policy = load_sb3_zip(rezip(ppo[1], {member: pickle.dumps(WritesAFile(proof))}))
    assert policy.num_actions == 6
    assert not proof.exists()


@pytest.mark.parametrize("agent", ["ppo", "qrdqn"])
def test_hostile_data_loads_with_nothing_run(
    tmp_path: Path, request: pytest.FixtureRequest, obs: np.ndarray, rezip: Rezip, agent: str
) -> None:
    _, path = request.getfixturevalue(agent)
    proof = tmp_path / "executed"
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    evil = base64.b64encode(pickle.dumps(WritesAFile(proof))).decode()
    for field in data.values():
        if isinstance(field, dict) and ":serialized:" in field:
            field[":serialized:"] = evil
    text = json.dumps(data)
    json_to_data(text)
    assert proof.exists()  # stable-baselines3 itself runs it
    proof.unlink()
    changed = load_sb3_zip(rezip(path, {"data": text.encode()}))
    assert not proof.exists()
    torch.testing.assert_close(ours(changed, obs)[0], ours(load_sb3_zip(path), obs)[0])


def test_header_that_promises_too_much(ppo: Agent, tmp_path: Path) -> None:
    raw = bytearray(ppo[1].read_bytes())
    for member in (b"policy.pth", b"data"):
        entry = raw.rindex(b"PK\x01\x02", 0, raw.rindex(member))
        size = struct.unpack_from("<I", raw, entry + 24)[0]
        struct.pack_into("<I", raw, entry + 24, 2**30 + 1)
        (tmp_path / "bomb.zip").write_bytes(raw)
        struct.pack_into("<I", raw, entry + 24, size)
        with pytest.raises(UserError, match=rf"{member.decode()} would unpack to more than 1 GiB"):
            load_sb3_zip(tmp_path / "bomb.zip")


def test_squeezed_records_inside_the_weights(ppo: Agent, rezip: Rezip, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.load unpacks deflated records, so a small policy.pth can be a bomb of its own."""
    plain, squeezed = io.BytesIO(), io.BytesIO()
    torch.save({"action_net.weight": torch.zeros(10**6)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    path = rezip(ppo[1], {"policy.pth": squeezed.getvalue(), "data": b"{}"})
    monkeypatch.setattr("teachers.formats.torch_file.MAX_BYTES", 10**6)
    assert len(squeezed.getvalue()) < 10**5
    with pytest.raises(UserError, match="weights would unpack to more than"):
        load_sb3_zip(path)


def test_tensor_larger_than_its_file(ppo: Agent, edit_weights: Edit) -> None:
    path = edit_weights(ppo[1], lambda w: w.update({"action_net.weight": torch.zeros(1).expand(10**6, 10**6)}))
    with pytest.raises(UserError, match="would take more than 1 GiB"):
        load_sb3_zip(path)


# Files that are simply wrong

BAD_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut by 10 bytes": (lambda good: good[:-10], "is not a readable zip file"),
    "cut by 1000 bytes": (lambda good: good[:-1000], "has no policy.pth.*cut short"),
    "cut in half": (lambda good: good[: len(good) // 2], "is not a readable zip file"),
    "bit rot": (lambda good: good.replace(b"action_net", b"actiom_net", 1), "is not a readable zip file .*CRC"),
    "encrypted": (
        lambda good: good.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"),
        "is not a readable zip file .*encrypted",
    ),
    "text": (lambda _: b"hello\n", "is not a readable zip file"),
    "empty": (lambda _: b"", "is not a readable zip file"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(tmp_path: Path, ppo: Agent, kind: str) -> None:
    damage, message = BAD_FILES[kind]
    good = ppo[1].read_bytes()
    bad = damage(good)
    assert bad != good
    (tmp_path / "bad.zip").write_bytes(bad)
    with pytest.raises(UserError, match=rf"bad\.zip {message}"):
        load_sb3_zip(tmp_path / "bad.zip")


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.zip"):
        with pytest.raises(UserError, match=rf"no teacher at {path}; give a path to a stable-baselines3 zip"):
            load_sb3_zip(path)


def test_zip_from_elsewhere(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "holiday.zip", "w") as archive:
        archive.writestr("beach.txt", "sand")
    with pytest.raises(UserError, match=r"holiday\.zip has no policy.pth: it is not from stable-baselines3"):
        load_sb3_zip(tmp_path / "holiday.zip")


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (b"not a pickle", "damaged or holds more than plain weights"),
        (saved([torch.zeros(1)]), "not a dictionary of named tensors"),
        (saved({1: torch.zeros(1)}), "not a dictionary of named tensors"),
        (saved({"action_net.weight": 3}), "not an ordinary tensor"),
        (saved({"action_net.weight": torch.zeros(2, 2).to_sparse()}), "not an ordinary tensor"),
        (saved({"action_net.weight": torch.zeros(2, device="meta")}), "not an ordinary tensor"),
        (saved({"action_net.weight": torch.zeros(2, dtype=torch.int64)}), "not an array of floats"),
        (saved({"action_net.weight": torch.zeros(())}), "not an array of floats"),
        (saved({"action_net.weight": torch.zeros(0, 4)}), "not an array of floats"),
        (saved({}), "no policy this toolkit knows .* none"),
        (saved({"actor.mu.weight": torch.zeros(1)}), r"no policy this toolkit knows .* actor\.mu\.weight"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_that_are_none(ppo: Agent, rezip: Rezip, policy: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_sb3_zip(rezip(ppo[1], {"policy.pth": policy}))


Weights = dict[str, torch.Tensor]
PI = "pi_features_extractor"
BAD_WEIGHTS: dict[str, tuple[str, Callable[[Weights], Any], str]] = {
    "NaN": ("ppo", lambda w: w["action_net.bias"].fill_(torch.nan), r"NaN or Inf \(action_net.bias\)"),
    "Inf": ("qrdqn", lambda w: w["quantile_net.quantile_net.0.bias"].fill_(torch.inf), "NaN or Inf"),
    "no bias": ("ppo", lambda w: w.pop("action_net.bias"), "action_net.bias is missing"),
    "no value": ("ppo", lambda w: w.pop("value_net.weight"), "value_net.weight is missing"),
    "no convolution": ("ppo", lambda w: w.pop(f"{PI}.cnn.2.weight"), "cnn.2.weight is missing"),
    "no dense layer": (
        "ppo",
        lambda w: [w.pop(f"{PI}.linear.0.{part}") for part in ("weight", "bias")],
        "dense layer after its convolutions is missing",
    ),
    "no head": (
        "qrdqn",
        lambda w: [w.pop(f"quantile_net.quantile_net.0.{part}") for part in ("weight", "bias")],
        r"quantile_net.quantile_net.0.weight is missing",
    ),
    "extra": ("ppo", lambda w: w.update({"lstm_actor.weight_ih_l0": torch.zeros(4, 4)}), "lstm_actor.* fit no network"),
    "extra in the extractor": (
        "ppo",
        lambda w: w.update({f"{PI}.attention.weight": torch.zeros(4, 4)}),
        "attention.weight fit no network",
    ),
    "extra in the Q-network": (
        "qrdqn",
        lambda w: w.update({"quantile_net.noise": torch.zeros(4)}),
        "quantile_net.noise fit no network",
    ),
    "batch norm": (
        "ppo",
        lambda w: w.update({f"{PI}.cnn.1.weight": torch.ones(32), f"{PI}.cnn.1.bias": torch.zeros(32)}),
        "neither a convolution nor a dense layer",
    ),
    "other kernel": (
        "ppo",
        lambda w: w.update({f"{PI}.cnn.0.weight": torch.zeros(32, 4, 5, 5)}),
        r"convolution of shape \(32, 4, 5, 5\) is not one of NatureCNN's",
    ),
    "other frames": (
        "ppo",
        lambda w: w.update({f"{PI}.linear.0.weight": torch.zeros(512, 4096)}),
        "do not fit 4 stacked 84x84 frames .*3136",
    ),
    "colour": (
        "ppo",
        lambda w: w.update({f"{PI}.cnn.0.weight": torch.zeros(32, 3, 8, 8)}),
        "do not fit 4 stacked 84x84 frames",
    ),
    "uneven head": (
        "qrdqn",
        lambda w: w.update({"quantile_net.quantile_net.0.bias": torch.zeros(18)}),
        "24 rows but a bias for 18",
    ),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_bad_weights(request: pytest.FixtureRequest, edit_weights: Edit, kind: str) -> None:
    agent, change, message = BAD_WEIGHTS[kind]
    path = edit_weights(request.getfixturevalue(agent)[1], change)
    with pytest.raises(UserError, match=rf"changed\.zip.*{message}"):
        load_sb3_zip(path)


@pytest.mark.parametrize(
    ("algorithm", "kwargs", "message"),
    [
        ("ppo", {"policy": "MlpPolicy", "shape": (4,)}, "only CnnPolicy agents are supported"),
        ("dqn", {"policy": "MlpPolicy", "shape": (4,)}, "only CnnPolicy agents are supported"),
        ("ppo", {"normalize_images": False}, "normalize_images=False"),
    ],
    ids=str,
)
def test_real_agents_of_kinds_we_do_not_know(make_agent: Any, algorithm: str, kwargs: Any, message: str) -> None:
    _, path = make_agent(algorithm, **kwargs)
    with pytest.raises(UserError, match=message):
        load_sb3_zip(path)


def test_custom_features_extractor(ppo: Agent, rezip: Rezip) -> None:
    data = {"policy_kwargs": {"features_extractor_class": "<class 'my.Extractor'>"}}
    with pytest.raises(UserError, match=r"features extractor is <class 'my.Extractor'>"):
        load_sb3_zip(rezip(ppo[1], {"data": json.dumps(data).encode()}))


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"not json",
        b"[" * 100_000,
        b"[]",
        b'{"action_space": 6}',
        b'{"action_space": {"n": "five"}}',
        b'{"action_space": {"n": 0}}',
        b'{"action_space": {"n": 5}}',
        b'{"action_space": {"n": 6}, "n_quantiles": 5}',
    ],
    ids=lambda data: str(data)[:40],
)
def test_only_qrdqn_needs_data(ppo: Agent, qrdqn: Agent, rezip: Rezip, data: bytes | None) -> None:
    assert load_sb3_zip(rezip(ppo[1], {"data": data})).num_actions == 6
    with pytest.raises(UserError, match="cannot tell how many actions its 24 quantile outputs stand for"):
        load_sb3_zip(rezip(qrdqn[1], {"data": data}))


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_tau(ppo: Agent, tau: float) -> None:
    with pytest.raises(UserError, match="tau must be a positive number"):
        load_sb3_zip(ppo[1], tau)
