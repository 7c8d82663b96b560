"""Files as CleanRL's scripts for Atari write them, of networks with the names and shapes that theirs have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill.collect.pipeline import collect
from distill.config.config import Config
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec
from teachers.formats.cleanrl import CategoricalQ, load_cleanrl
from teachers.load import agent_game, load_teacher

ACTIONS, ATOMS = 4, 51


def layers(*after: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), *after,
    )  # fmt: skip


class Actor(nn.Module):
    """As ppo_atari and ppo_atari_envpool have it."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.actor, self.critic = layers(), nn.Linear(512, ACTIONS), nn.Linear(512, 1)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.network(obs / 255.0)
        return self.actor(hidden), self.critic(hidden)[:, 0]


class Q(nn.Module):
    """As dqn_atari and, with atoms, c51_atari have it."""

    def __init__(self, atoms: int = 0) -> None:
        super().__init__()
        self.network = layers(nn.Linear(512, ACTIONS * max(atoms, 1)))
        if atoms:
            self.register_buffer("atoms", torch.linspace(-10, 10, atoms))

    def forward(self, obs: Tensor) -> Tensor:
        out = self.network(obs / 255.0)
        if "atoms" not in dict(self.named_buffers()):
            return out  # type: ignore[no-any-return]
        return (torch.softmax(out.view(len(obs), ACTIONS, -1), 2) * self.atoms).sum(2)  # type: ignore[operator]


@pytest.fixture(scope="module", autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(content: object, name: str = "dqn_atari.cleanrl_model", folder: str = "breakout") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        torch.save(content, tmp_path / folder / name)
        return tmp_path / folder / name

    return write


@pytest.fixture
def pixels(obs: np.ndarray) -> Tensor:
    return torch.from_numpy(obs)


def c51(net: Q, **args: Any) -> dict[str, Any]:
    return {"model_weights": net.state_dict(), "args": {"exp_name": "c51_atari", "n_atoms": ATOMS, **args}}


def test_an_actors_logits_and_value(save: Callable[..., Path], pixels: Tensor) -> None:
    net = Actor()
    loaded = load_cleanrl(save(net.state_dict(), "ppo_atari.cleanrl_model"))
    assert (loaded.algorithm, loaded.num_actions, loaded.tau) == ("PPO", ACTIONS, None)
    for mine, theirs in zip(loaded.net.logits_and_value(pixels / 255), net(pixels), strict=True):  # type: ignore[operator]
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("tau", [0.01, 2.0])
def test_q_values_become_logits(save: Callable[..., Path], pixels: Tensor, tau: float) -> None:
    net = Q()
    loaded = load_cleanrl(save(net.state_dict()), tau)
    assert (loaded.algorithm, loaded.num_actions, loaded.tau) == ("DQN", ACTIONS, tau)
    torch.testing.assert_close(loaded.net(pixels / 255) * tau, net(pixels))


@pytest.mark.parametrize("tau", [0.01, 2.0])
def test_the_means_of_distributions_become_logits(save: Callable[..., Path], pixels: Tensor, tau: float) -> None:
    net = Q(ATOMS)
    loaded = load_cleanrl(save(c51(net)), tau)
    assert isinstance(loaded.net, CategoricalQ)
    assert (loaded.algorithm, loaded.num_actions, loaded.tau) == ("C51", ACTIONS, tau)
    torch.testing.assert_close(loaded.net(pixels / 255) * tau, net(pixels))


def test_the_atoms_are_part_of_who_it_is(save: Callable[..., Path]) -> None:
    net = Q(ATOMS)
    first = load_teacher(str(save(c51(net), "a.cleanrl_model"))).info
    net.atoms *= 2  # type: ignore[operator]
    second = load_teacher(str(save(c51(net), "b.cleanrl_model"))).info
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint != load_teacher(str(save(c51(net), "a.cleanrl_model")), tau=0.02).info.fingerprint


def test_the_preset_is_cleanrls_unless_asked(save: Callable[..., Path]) -> None:
    path = str(save(Q().state_dict()))
    assert load_teacher(path).info.preset == "cleanrl"
    assert load_teacher(path, recorded="sb3").info.preset == "cleanrl"
    assert load_teacher(path, preset="cleanrl-gymnasium1").info.preset == "cleanrl-gymnasium1"


def test_the_game_is_told_by_settings_and_by_the_runs_folder(save: Callable[..., Path], tmp_path: Path) -> None:
    told = save(c51(Q(ATOMS), env_id="BreakoutNoFrameskip-v4"), "c51_atari.cleanrl_model", folder="x")
    assert agent_game(str(told)) == ("breakout", "the file itself")
    with pytest.raises(UserError, match="plays breakout, not pong"):
        load_teacher(str(told), game="pong")
    save(Q().state_dict(), folder="BreakoutNoFrameskip-v4__dqn_atari__1__1690000000")
    run = tmp_path / "BreakoutNoFrameskip-v4__dqn_atari__1__1690000000"
    teacher = load_teacher(str(run))
    assert (teacher.info.game, teacher.info.algorithm) == ("breakout", "DQN")
    told = save(c51(Q(ATOMS), env_id="ALE/Breakout-v5"), "c51_atari.cleanrl_model", folder="y")
    with pytest.raises(UserError, match=r"env_id ALE/Breakout-v5, which has sticky actions .* \(the file itself\)"):
        load_teacher(str(told))


def test_envpools_frames_are_no_presets(save: Callable[..., Path]) -> None:
    path = str(save(Actor().state_dict(), "ppo_atari_envpool.cleanrl_model"))
    with pytest.raises(UserError, match=r"EnvPool, whose frames, no-ops and lost lives are its own .*; --preset=sb3 "):
        load_teacher(path, game="breakout")
    assert load_teacher(path, game="breakout", preset="sb3-fast").info.preset == "sb3-fast"


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run!",)


def without(net: nn.Module, *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if name not in names}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: [1], "the file is not a dictionary of named tensors"),
        (lambda: {"model_weights": 3, "args": {}}, "the file is not a dictionary of named tensors"),
        (lambda: {"x": Evil()}, "the file is damaged or holds more than plain weights, so it was not loaded"),
        (lambda: {"body.weight": torch.ones(1)}, "is no agent of CleanRL's .*; its parameters are body.weight"),
        (lambda: without(Q(), "network.9.bias"), "parameter network.9.bias is missing"),
        (lambda: without(Actor(), "critic.weight"), "parameter critic.weight is missing"),
        (lambda: Actor().state_dict() | {"lstm.weight_ih_l0": torch.ones(2, 2)}, r"lstm\.weight_ih_l0 fit no"),
        (lambda: Q().state_dict() | {"network.0.weight": torch.ones(32, 4, 5, 5)}, "is not one of NatureCNN's"),
        (lambda: Q().state_dict() | {"network.4.weight": torch.ones(9, 64, 3, 3)}, "do not fit 4 stacked 84x84 frames"),
        (lambda: Q().state_dict() | {"network.2.bias": torch.full((64,), torch.nan)}, "hold NaN or Inf"),
        (lambda: c51(Q(ATOMS)) | {"model_weights": Q(ATOMS).state_dict() | {"atoms": torch.ones(7)}}, "no multiple of"),
        (lambda: {f"network.{n}.{p}": torch.ones(4, 4)[:, : 4 if p == "weight" else 1].squeeze(1)
                  for n in (0, 2) for p in ("weight", "bias")}, "not convolutions and then dense ones"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(
    save: Callable[..., Path], content: Callable[[], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_cleanrl(save(content()))
    assert "\n" not in str(error.value)
    assert "run!" not in capsys.readouterr().out


def test_files_of_the_jax_scripts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dqn_atari_jax.cleanrl_model"
    path.write_bytes(b"\x81\xa6params\x80")
    with pytest.raises(
        UserError, match=r"was not written by PyTorch: CleanRL's JAX scripts \(\.\.\._jax\) save Flax's"
    ):
        load_teacher(str(path), game="breakout")
    with pytest.raises(UserError, match="No such file"):
        load_cleanrl(tmp_path / "missing.cleanrl_model")


def test_derivatives_of_a_network_that_the_engine_does_not_know(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """The smallest C51 collects on CleanRL's preset, and what is on disk is what autograd says of it."""
    net = AtariCNN(NetSpec(((2, 8, 4),), (5,)), ACTIONS * 3)
    with torch.no_grad():
        net.policy.weight.mul_(300)
    state = {"network.0": "features.0", "network.3": "features.3", "network.5": "policy"}
    weights = {
        f"{theirs}.{p}": net.state_dict()[f"{mine}.{p}"] for theirs, mine in state.items() for p in ("weight", "bias")
    }
    path = tmp_path / "BreakoutNoFrameskip-v4.cleanrl_model"
    torch.save({"model_weights": weights | {"atoms": torch.tensor([-1.0, 0.0, 2.0])}, "args": {}}, path)
    config = make_config(
        teacher=str(path), tau=0.5, collect={"out": str(tmp_path / "data"), "states": 60, "num_envs": 2, "k": 2}
    )
    collect(config)
    dataset = Dataset(tmp_path / "data", verify=True)
    assert dataset.identity.preset == "cleanrl"
    teacher = load_teacher(str(path), tau=0.5)
    assert dataset.identity.teacher == teacher.info.fingerprint
    index = np.arange(60)
    x = torch.from_numpy(dataset.stacks(index)).float().div(255).requires_grad_()
    odds = net(x).view(60, ACTIONS, 3).softmax(2)
    logits = (odds * torch.tensor([-1.0, 0.0, 2.0])).sum(2) / 0.5
    np.testing.assert_allclose(dataset.logits, logits.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert dataset.v is not None
    stored = dataset.jacobian(index)
    for k in range(2):
        (want,) = torch.autograd.grad((logits * torch.from_numpy(dataset.v[:, k])).sum(), x, retain_graph=True)
        have = stored.codes[:, k] * stored.scale[:, k, ..., None]
        assert np.linalg.norm(have - want.numpy()) < 0.02 * np.linalg.norm(want.numpy())
