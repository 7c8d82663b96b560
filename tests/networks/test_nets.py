from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.engine.step import make_engine
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.layers.layer import activations
from distill.networks.nets import NETS, AtariCNN, NetSpec, count_parameters, described, net_spec, same_network, to_unit
from distill.students.folder import load_student, save_student
from distill.task import Task
from distill.train.network import settings_of

# By hand from the papers' layers, six actions: (4 * 64 + 1) 16 + (16 * 16 + 1) 32 + (32 * 81 + 1) 256 + 257 * 6, ...
PARAMETERS = {"mnih2013": 677_686, "nature": 1_687_206, "nature-half": 424_790,
              "rusu-25": 424_790, "rusu-7": 111_798, "rusu-4": 61_174, "rusu-1": 16_446}  # fmt: skip
FEATURES = {"mnih2013": 256, "nature": 512, "nature-half": 256, "rusu-25": 256, "rusu-7": 128, "rusu-4": 64,
            "rusu-1": 32}  # fmt: skip
PUBLISHED = {"nature": 1_693_362, "rusu-25": 427_874, "rusu-7": 113_346, "rusu-4": 61_954}
"""Rusu et al. 2016 for all 18 actions: "428,000", and the others to the last weight; the paper's DQN by its layers."""


def test_every_network_is_counted() -> None:
    assert PARAMETERS.keys() == NETS.keys()


@pytest.mark.parametrize("name", NETS)
def test_shapes_and_size(name: str) -> None:
    net = AtariCNN(net_spec(name), 6)
    assert count_parameters(net) == PARAMETERS[name]
    x = torch.rand(3, 4, 84, 84)
    assert net(x).shape == (3, 6)
    assert net.features(x).shape == (3, FEATURES[name])
    logits, value = net.logits_and_value(x)
    assert torch.equal(logits, net(x))
    assert value is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    assert count_parameters(AtariCNN(net_spec(name), 18)) == PUBLISHED[name]


def test_the_smallest_has_one_percent_of_the_weights() -> None:
    small, teacher = (count_parameters(AtariCNN(net_spec(name), 18)) for name in ("rusu-1", "nature"))
    assert small / teacher == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_value_head(name: str) -> None:
    net = AtariCNN(net_spec(name), 6, value=True)
    logits, value = net.logits_and_value(torch.rand(3, 4, 84, 84))
    assert logits.shape == (3, 6)
    assert value is not None
    assert value.shape == (3,)
    assert count_parameters(net) == PARAMETERS[name] + FEATURES[name] + 1
    assert count_parameters(net.path()) == PARAMETERS[name]


@pytest.mark.parametrize("activation", activations())
def test_path_is_the_network_and_shares_its_weights(activation: str) -> None:
    net = AtariCNN(NetSpec(((4, 8, 4),), (8,), activation), 6)
    x = torch.rand(2, 4, 84, 84)
    assert torch.equal(net.path()(x), net(x))
    assert sum(isinstance(module, activations()[activation].module) for module in net.path()) == 2
    assert {id(parameter) for parameter in net.path().parameters()} == {id(parameter) for parameter in net.parameters()}


def test_fresh_policies_are_nearly_uniform() -> None:
    torch.manual_seed(0)
    probabilities = AtariCNN(NETS["mnih2013"], 6)(torch.rand(8, 4, 84, 84)).softmax(-1)
    assert (probabilities - 1 / 6).abs().max() < 0.02


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("activation", activations())
def test_spec_survives_json(name: str, activation: str) -> None:
    spec = NetSpec(NETS[name].convs, NETS[name].hidden, activation)
    assert NetSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_no_dense_layer() -> None:
    net = AtariCNN(NetSpec(((4, 8, 4),), ()), 6)
    assert net(torch.rand(2, 4, 84, 84)).shape == (2, 6)
    assert [type(module).__name__ for module in net.path()] == ["Conv2d", "ReLU", "Flatten", "Linear"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (NetSpec(((16, 85, 4),), ()), "a 85x85 convolution does not fit a 84x84 input"),
        (NetSpec(((16, 8, 4), (16, 21, 1)), ()), "a 21x21 convolution does not fit a 20x20 input"),
        (NetSpec(((16, 8, 0),), ()), "positive channels, kernels, strides and widths; got convs .*16, 8, 0"),
        (NetSpec(((0, 8, 4),), ()), "positive channels"),
        (NetSpec(((16, 8, 4),), (256, -1)), r"hidden \(256, -1\)"),
        (NetSpec((), (256,)), "at least one convolution"),
        (NetSpec(((16, 8, 4),), (), "softplu"), r"unknown activation 'softplu' \(did you mean 'softplus'\?\)"),
    ],
)
def test_impossible_networks_are_refused(spec: NetSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        AtariCNN(spec, 6)


def test_the_largest_kernel_that_fits() -> None:
    assert AtariCNN(NetSpec(((2, 8, 4), (2, 20, 1)), ()), 6)(torch.rand(1, 4, 84, 84)).shape == (1, 6)


def test_unknown_network_suggests_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"unknown network 'mnih2015' \(did you mean 'mnih2013'\?\); known: mnih2013, na"
    ):
        net_spec("mnih2015")


def test_to_unit() -> None:
    obs = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert to_unit(obs).dtype == torch.float32
    torch.testing.assert_close(to_unit(obs), torch.tensor([0.0, 0.2, 1.0]))


class Inverted(AtariCNN):
    """Other layers than its ``NetSpec`` tells."""

    def __init__(self, num_actions: int) -> None:
        super().__init__(NetSpec(((4, 8, 8),), (8,)), num_actions)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(1 - x)


class Whole(Inverted):
    """Tells its layers."""

    def path(self) -> nn.Sequential:
        return nn.Sequential(*self.features, self.policy)


def test_a_derived_class_is_a_network_of_its_own(tmp_path: Path) -> None:
    net = Inverted(6)
    assert not described(net)
    assert described(AtariCNN(net.spec, 6))
    assert make_engine(net) is None
    assert make_engine(Whole(6)) is not None
    assert settings_of(net).convs is None
    task = Task("pong", "sb3", get_preset("sb3").hash, 6)
    save_student(tmp_path, net, task, network=f"{__name__}:Inverted")
    loaded, x = load_student(tmp_path).net, torch.rand(2, 4, 84, 84)
    torch.testing.assert_close(loaded(x), net(x))
    assert not (tmp_path / "student.zip").exists()


def smooth(num_actions: int) -> AtariCNN:
    """A described network whose activations were changed afterwards."""
    net = AtariCNN(NETS["rusu-1"], num_actions)
    for number, layer in enumerate(net.features):
        if isinstance(layer, nn.ReLU):
            net.features[number] = nn.ELU()
    return net


def test_an_altered_network_is_one_built_by_a_program(tmp_path: Path) -> None:
    net, task = smooth(6), Task("pong", "sb3", get_preset("sb3").hash, 6)
    assert not described(net)
    assert not same_network(net, AtariCNN(NETS["rusu-1"], 6))
    assert same_network(net, smooth(6))
    save_student(tmp_path, net, task, network=f"{__name__}:smooth")
    assert not (tmp_path / "student.zip").exists()
    x = torch.rand(2, 4, 84, 84)
    with torch.no_grad():
        assert load_student(tmp_path).net(x).equal(net(x))


@pytest.mark.parametrize(
    "alter",
    [
        lambda net: setattr(net.features[0], "stride", (2, 2)),
        lambda net: net.register_forward_hook(lambda *_: None),
        lambda net: nn.utils.parametrizations.weight_norm(net.policy),
        lambda net: setattr(net, "forward", lambda x: net.policy(net.features(x))),
        lambda net: net.features.append(nn.Dropout()),
    ],
)
def test_whatever_is_altered(alter: Callable[[AtariCNN], object]) -> None:
    net = AtariCNN(NETS["rusu-1"], 6)
    assert described(net)
    alter(net)
    assert not described(net)


@pytest.mark.parametrize("options", [{"noise": "coloured"}, {"band_limit": (0.5, 0.3, 0.0)}, {"convs": [[4, 8, 4]]}])
@pytest.mark.parametrize("value", [False, True])
def test_what_a_description_tells_is_described(options: dict[str, object], value: bool) -> None:
    spec = dataclasses.replace(NETS["rusu-1"], **options)  # type: ignore[arg-type]
    net = AtariCNN(spec, 6, value=value)
    before = torch.get_rng_state()
    assert described(net)
    assert described(net.double().eval())
    assert torch.get_rng_state().equal(before)
