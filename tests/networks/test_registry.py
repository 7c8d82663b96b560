"""Networks by name and by dotted path, and programs that build one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from distill.errors import UserError
from distill.networks.nets import NETS, AtariCNN, NetSpec
from distill.networks.registry import NETWORKS, build_network, find_network, name_of, register_network
from distill.networks.settings import StudentConfig


class Flat(nn.Module):
    def __init__(self, num_actions: int = 6) -> None:
        super().__init__()
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, num_actions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(x.mean((2, 3))))  # type: ignore[no-any-return]


class Sized(Flat):
    """What its class alone does not build again."""

    def __init__(self, num_actions: int, width: int = 4) -> None:
        super().__init__(num_actions)
        self.extra = nn.Linear(width, 1)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NETWORKS, "_things", dict(NETWORKS))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    text = "from torch import nn\nfive = 5\nnet = nn.Identity()\ndef build(actions):\n    return nn.Sequential("
    text += "nn.AvgPool2d(84), nn.Flatten(), nn.Linear(4, actions))\ndef wide(actions): return build(actions + 1)\n"
    text += "def none(actions): return None\ndef fails(actions): raise RuntimeError('no')\n"
    (tmp_path / "some_nets.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "some_nets"
    sys.modules.pop("some_nets", None)


def test_the_toolkits_own_are_descriptions() -> None:
    assert {name: find_network(name) for name in NETS} == NETS
    net = build_network("nature", 3)
    assert isinstance(net, AtariCNN)
    assert (net.spec, net.num_actions) == (NETS["nature"], 3)


def test_a_registered_description_and_a_registered_program() -> None:
    spec = NetSpec(((2, 8, 4),), (5,))
    register_network("small", spec)
    register_network("flat", Flat)
    assert find_network("small") is spec
    assert isinstance(build_network("flat", 4), Flat)
    StudentConfig(name="small", hidden=[3], activation="tanh").check()
    StudentConfig(name="flat").check()
    with pytest.raises(UserError, match="there is a network 'flat' already"):
        register_network("flat", Flat)
    with pytest.raises(UserError, match=r"network 'made' must be a NetSpec, or a callable .* but is a Flat"):
        register_network("made", Flat())  # type: ignore[arg-type]


def test_a_program_at_a_dotted_path_builds_in_the_mode_it_builds_in(module: str) -> None:
    net = build_network(f"{module}:build", 5)
    assert net.training
    assert net(torch.rand(3, 4, 84, 84)).shape == (3, 5)


def test_a_look_at_the_output_draws_nothing() -> None:
    register_network("flat", Flat)
    torch.manual_seed(0)
    Flat(6)
    after = torch.rand(1)
    torch.manual_seed(0)
    build_network("flat", 6)
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("five", "network 'some_nets:five' must be a NetSpec, or a callable .* but is a int"),
        ("net", "must be a NetSpec, or a callable from the number of actions to an nn.Module, but is a Identity"),
        ("none", "network 'some_nets:none' must build an nn.Module, but builds a NoneType"),
        ("fails", r"network 'some_nets:fails' fails \(RuntimeError: no\); mend it"),
        ("wide", r"network 'some_nets:wide' gives \(2, 7\) for two states, not logits \(2, 6\)"),
        ("built", r"some_nets has no 'built' \(did you mean 'build'\?\)"),
    ],
)
def test_what_builds_no_network_is_refused_in_a_sentence(module: str, attribute: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        build_network(f"{module}:{attribute}", 6)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"convs": [(4, 8, 4)]}, {"hidden": [8]}, {"activation": "tanh"}])
def test_layers_of_a_program_cannot_be_replaced(change: dict[str, object]) -> None:
    register_network("flat", Flat)
    with pytest.raises(UserError, match=f"--student.{next(iter(change))} changes networks that are described by their"):
        StudentConfig(name="flat", **change).check()  # type: ignore[arg-type]


def test_the_name_that_builds_a_network_again() -> None:
    class Local(Flat):
        pass

    here = f"{__name__}:"
    assert name_of(Flat(6), 6) == f"{here}Flat"
    assert name_of(Sized(6), 6) == f"{here}Sized"
    assert name_of(Sized(6, width=9), 6) is None
    assert name_of(Local(6), 6) is None
    register_network("flat", Flat)
    assert name_of(Flat(6), 6) == "flat"
