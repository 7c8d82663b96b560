"""Teachers that a program makes, by dotted path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from distill.agents.names import is_there
from distill.collect.pipeline import collect
from distill.collect.verify import verify
from distill.config.config import Config
from distill.dataset.schema import read_manifest, teacher_name
from distill.errors import UserError
from teachers.layouts import is_agent
from teachers.load import agent_game, load_teacher

TEXT = """
import torch
from torch import nn
from teachers.protocol import Teacher, TeacherInfo

class Flat(nn.Module):
    def __init__(self, actions=6, gain=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.AvgPool2d(12), nn.Flatten(), nn.Linear(4 * 49, actions))
        self.gain = gain
    def forward(self, x):
        return self.gain * torch.sin(self.body(x))

def bare():
    return Flat()

def pong():
    return Teacher.of(Flat(), game="PongNoFrameskip-v4", preset="sb3-fast", algorithm="ours")

class Rule(nn.Module):
    def forward(self, x):
        return torch.arange(6.0).expand(len(x), 6)

def up():
    return Teacher.of(Rule(), game="pong")

def down():
    return Teacher.of(Rule(), game="pong")

def hot():
    return Flat(gain=0.01)

def forged():
    teacher = pong()
    return Teacher(teacher.net, TeacherInfo("x", "pong", "y", "sb3", "me", 6, 1))

def number():
    return 3

def narrow():
    return nn.Linear(3, 6)

def few():
    return Flat(4)

def fails():
    raise RuntimeError("no weights here")

here = Flat()
five = 5
"""


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "some_agents.py").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield "some_agents"
    sys.modules.pop("some_agents", None)


def test_a_teacher_tells_its_game_and_preset(agents: str) -> None:
    teacher = load_teacher(f"{agents}:pong")
    assert (teacher.info.game, teacher.info.preset, teacher.info.algorithm) == ("pong", "sb3-fast", "ours")
    assert teacher.info.name == f"{agents}:pong"
    assert agent_game(f"{agents}:pong") == ("pong", "its Teacher")
    assert load_teacher(f"{agents}:pong", preset="sb3").info.preset == "sb3"
    assert is_agent(f"{agents}:pong")
    assert is_there(f"{agents}:pong")
    with pytest.raises(UserError, match="plays pong, not breakout; choose another teacher or game"):
        load_teacher(f"{agents}:pong", game="breakout")


def test_rules_without_weights_are_known_by_their_paths(agents: str) -> None:
    """Else one would be given the games, and the labels, of the other."""
    up, down = (load_teacher(f"{agents}:{name}").info.fingerprint for name in ("up", "down"))
    assert up != down
    assert up == load_teacher(f"{agents}:up").info.fingerprint


def test_one_network_at_two_paths_is_two_agents(agents: str) -> None:
    """A program may play the same weights otherwise, by an attribute that is no tensor."""
    bare, hot = (load_teacher(f"{agents}:{name}", game="pong") for name in ("bare", "hot"))
    assert not bare(torch.ones(1, 4, 84, 84)).equal(hot(torch.ones(1, 4, 84, 84)))
    assert bare.info.fingerprint != hot.info.fingerprint
    assert bare.info.fingerprint == load_teacher(f"{agents}:bare", game="pong").info.fingerprint


def test_a_bare_network_plays_what_is_asked(agents: str) -> None:
    teacher = load_teacher(f"{agents}:bare", game="pong")
    assert (teacher.info.game, teacher.info.preset, teacher.info.algorithm) == ("pong", "sb3", "Flat")
    assert load_teacher(f"{agents}:bare", game="pong", recorded="cleanrl").info.preset == "cleanrl"
    assert agent_game(f"{agents}:bare") is None
    with pytest.raises(UserError, match="cannot tell which game some_agents:bare plays; name it with --env"):
        load_teacher(f"{agents}:bare")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("five", "teacher 'some_agents:five' must be a callable without arguments that returns a Teacher or an nn.Mod"),
        ("here", "must be a callable without arguments that returns a Teacher or an nn.Module, but is a Flat"),
        ("number", "must return a Teacher or an nn.Module, but returns a int"),
        ("fails", r"teacher 'some_agents:fails' fails \(RuntimeError: no weights here\); mend it"),
        ("forged", "the fingerprint of its Teacher is no SHA-256; make it with Teacher.of"),
        ("narrow", r"does not take float pixels \(B, 4, 84, 84\) \(RuntimeError: "),
        ("few", r"gives \(2, 4\) for two states, not logits \(2, 6\)"),
        ("pung", r"some_agents has no 'pung' \(did you mean 'pong'\?\)"),
    ],
)
def test_what_is_no_teacher_is_refused_in_a_sentence(agents: str, attribute: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_teacher(f"{agents}:{attribute}", game="pong")
    assert "\n" not in str(error.value)


def test_it_labels_and_its_data_can_be_verified(
    agents: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(teacher=f"{agents}:pong", collect={"out": str(tmp_path / "data"), "states": 40, "num_envs": 2})
    collect(config)
    manifest = read_manifest(tmp_path / "data")
    assert (manifest.identity.preset, teacher_name(tmp_path / "data", manifest)) == ("sb3-fast", f"{agents}:pong")
    verdict = verify(tmp_path / "data", load_teacher(f"{agents}:pong"), sample=40)
    assert verdict.logit_error is not None
    assert verdict.logit_error < 1e-5
    assert torch.isfinite(torch.tensor(verdict.jacobian_error or 0.0))
