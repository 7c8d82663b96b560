"""Several teachers as one: its probabilities, its derivatives, and that a student learns from it."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.agents.agents import find_agents
from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import collect, evaluate, train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.networks.weights import fingerprint
from teachers.load import PRETRAINED, agent_game, load_teacher
from tests.teachers.conftest import MakeAgent

RULES = """
import torch
from torch import nn

class Rule(nn.Module):
    def __init__(self, action):
        super().__init__()
        self.action = action
    def forward(self, x):
        return 3.0 * torch.eye(6)[self.action].expand(len(x), 6)

def up():
    return Rule(2)

def noop():
    return Rule(0)
"""


def _c51(actions: int = 6, atoms: int = 3) -> dict[str, Any]:
    """What CleanRL's c51_atari saves."""
    sizes = {0: (32, 4, 8, 8), 2: (64, 32, 4, 4), 4: (64, 64, 3, 3), 7: (512, 3136), 9: (actions * atoms, 512)}
    weights = {f"network.{place}.weight": torch.randn(*size) / 10 for place, size in sizes.items()}
    weights |= {f"network.{place}.bias": torch.zeros(size[0]) for place, size in sizes.items()}
    return {"model_weights": weights | {"atoms": torch.linspace(-1, 1, atoms)}, "args": {}}


@pytest.fixture
def name(other_pong_zip: Path) -> str:
    return f"mixture:pong,{other_pong_zip}"


def test_its_policy_is_the_mean_of_theirs(name: str, other_pong_zip: Path, pong_data: Path) -> None:
    data = Dataset(pong_data)
    x = torch.from_numpy(data.stacks(torch.arange(0, 600, 100).numpy())).float() / 255
    both, one, other = load_teacher(name), load_teacher("pong"), load_teacher(str(other_pong_zip), game="pong")
    mean = (one(x).softmax(-1) + other(x).softmax(-1)) / 2
    torch.testing.assert_close(both(x).softmax(-1), mean)
    torch.testing.assert_close(both(x).exp(), mean)
    value = both.logits_and_value(x)[1]
    assert value is not None
    torch.testing.assert_close(value, (one.logits_and_value(x)[1] + other.logits_and_value(x)[1]) / 2)  # type: ignore[operator]
    assert both.info.fingerprint not in (one.info.fingerprint, other.info.fingerprint)
    assert (both.info.game, both.info.name) == ("pong", name)
    assert agent_game(name) == agent_game("pong")


def test_it_has_a_value_where_all_have_one(name: str, make_agent: MakeAgent, tmp_path: Path) -> None:
    dqn = tmp_path / "pong-dqn.zip"
    shutil.copyfile(make_agent("dqn")[1], dqn)
    assert load_teacher(name).has_value
    assert not load_teacher(f"{name},{dqn}", game="pong").has_value


def test_a_temperature_of_q_values_is_kept_with_what_it_labels(
    name: str, make_agent: MakeAgent, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    dqn = tmp_path / "pong-dqn.zip"
    shutil.copyfile(make_agent("dqn")[1], dqn)
    assert load_teacher(name).info.tau is None
    for number, teacher in enumerate((f"mixture:pong,{dqn}", str(dqn))):
        data: dict[str, Any] = {"out": str(tmp_path / f"data-{number}"), "states": 200, "num_envs": 2}
        collect(make_config(env="pong", teacher=teacher, tau=0.1, collect=data))
        assert main(["verify", data["out"]]) == 0
        fresh = {"data": data["out"], "steps": 2, "batch_size": 8, "val_states": 20, "warmup": 0, "val_every": 2}
        config = make_config(env="pong", teacher=teacher, train=fresh | {"out": f"{data['out']}-run"})
        objective = dataclasses.replace(config.objective, jacobian_targets="online")
        train(dataclasses.replace(config, objective=objective))


def test_a_mixture_of_others_is_another(make_agent: MakeAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts without weights, or with a temperature beside them, are told apart as they are by themselves."""
    (tmp_path / "some_rules.py").write_text(RULES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    up, noop = "some_rules:up", "some_rules:noop"
    torch.save(_c51(), tmp_path / "pong.cleanrl_model")
    names = [f"mixture:pong,{up}", f"mixture:pong,{noop}", f"mixture:{up},{noop}", f"mixture:{up},{up}"]
    marks = [load_teacher(name, game="pong").info.fingerprint for name in names]
    q_values = f"mixture:pong,{tmp_path / 'pong.cleanrl_model'}"
    marks += [load_teacher(q_values, preset="sb3", tau=tau).info.fingerprint for tau in (0.01, 1.0)]
    sys.modules.pop("some_rules")
    assert len(set(marks)) == len(marks)


def test_a_mixture_of_plain_agents_is_known_by_their_weights(name: str) -> None:
    """As it always was: data sets on disk name it so."""
    both = load_teacher(name)
    assert both.info.fingerprint == fingerprint(both.net.state_dict())


def test_its_name_in_an_evaluation_is_that_of_its_parts(name: str, other_pong_zip: Path) -> None:
    (agent,) = find_agents(Config(env="pong"), [name])
    assert agent.name == f"pong+{other_pong_zip.stem}"


def test_info_takes_no_card_of_its_parts_for_its_own(
    name: str, other_pong_zip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", name]) == 0
    told = "".join(capsys.readouterr().out.split())
    assert "score" not in told
    assert all(str(path) in told for path in (PRETRAINED / "pong-ppo.zip", other_pong_zip))


def test_a_student_learns_from_it(
    name: str, make_config: Callable[..., Config], quick: Callable[..., Config], tmp_path: Path
) -> None:
    out = tmp_path / "data"
    collect(make_config(teacher=name, collect={"out": str(out), "states": 400, "num_envs": 4, "shard_states": 100}))
    data, both = Dataset(out), load_teacher(name)
    assert data.identity.teacher == both.info.fingerprint
    x = (torch.from_numpy(data.stacks(torch.arange(3).numpy())).float() / 255).requires_grad_()
    assert data.v is not None
    (slopes,) = torch.autograd.grad((both(x) * torch.from_numpy(data.v[:3, 0])).sum(), x)
    stored = data.jacobian(torch.arange(3).numpy())
    kept = torch.from_numpy(stored.codes[:, 0]).float() * torch.from_numpy(stored.scale[:, 0]).unsqueeze(-1)
    torch.testing.assert_close(kept, slopes, atol=float(slopes.abs().max()) / 100, rtol=0)
    student = train(quick(train={"data": str(out)}, objective={"jacobian_weight": 0.01}))
    scores = evaluate(make_config(evaluate={
        "agents": [f"student={student}"], "games": 1, "num_envs": 1, "out": str(tmp_path / "scores"),
        "data": str(out), "val_states": 20,
    }))  # fmt: skip
    assert scores["agents"]["student"]["teacher"] == both.info.fingerprint


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            "mixture:pong",
            "must name at least two teachers, as mixture:pong-ppo,runs/other, and stand in quotes in a list",
        ),
        (
            "mixture:pong,breakout",
            r"teacher breakout in mixture:pong,breakout is of breakout, not pong; a mixture is of",
        ),
        ("mixture:pong,nobody", "nobody"),
    ],
)
def test_what_is_no_mixture_is_refused(named: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_teacher(named)
