"""Settings of a network: which layers they name, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from distill.errors import UserError
from distill.networks.build import build_student, student_spec
from distill.networks.nets import NETS, AtariCNN, NetSpec
from distill.networks.registry import register_network
from distill.networks.settings import StudentConfig
from distill.system.settings import check_settings
from distill.train.network import network_text, settings_of


def test_layers_are_ordinary_unless_asked_for() -> None:
    assert student_spec(StudentConfig()) == NETS["mnih2013"]
    assert student_spec(StudentConfig(noise_on="activations", noise_at_play=False)) == NETS["mnih2013"]


@pytest.mark.parametrize(("settings", "options", "text"), [
    ({"band_limit": 0.5}, {"band_limit": (0.5, 0.5)}, "mnih2013, band limit 0.5"),
    ({"band_limit": [0.0, 0.3]}, {"band_limit": (0.0, 0.3)}, "mnih2013, band limit 0 0.3"),
    ({"noise": "white"}, {"noise": "white"}, "mnih2013, white noise on weights at play"),
    ({"noise": "coloured", "noise_on": "activations", "noise_at_play": False},
     {"noise": "coloured", "noise_on": "activations", "noise_at_play": False},
     "mnih2013, coloured noise on activations"),
])  # fmt: skip
def test_options(settings: dict[str, Any], options: dict[str, Any], text: str) -> None:
    asked = StudentConfig(**settings)
    check_settings(asked)
    spec = student_spec(asked)
    assert spec == NetSpec(NETS["mnih2013"].convs, NETS["mnih2013"].hidden, **options)
    assert network_text(asked) == text
    assert student_spec(settings_of(build_student(asked, 6))) == spec


@pytest.mark.parametrize(("settings", "message"), [
    ({"band_limit": 1.0}, "--band_limit must be from 0 to below 1, got 1.0"),
    ({"band_limit": [0.5, -0.1]}, "--band_limit must be from 0 to below 1, got -0.1"),
    ({"band_limit": [0.5]}, "--student.band_limit must be one number, or one for each of 2 convolutions, got"),
    ({"band_limit": [0.5] * 3, "convs": [[4, 8, 4]]}, "one for each of 1 convolutions"),
    ({"noise": "pink"}, "--noise must be one of"),
    ({"noise": "white", "noise_on": "activations", "band_limit": 0.5}, "is not made for band-limited convolutions"),
])  # fmt: skip
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_settings(StudentConfig(**settings))


def test_a_registered_networks_layers_stay_but_for_what_is_asked() -> None:
    spec = NetSpec(((4, 8, 4), (4, 4, 2)), (8,), "tanh", band_limit=(0.0, 0.5), noise="white", noise_at_play=False)
    register_network("own-layers", spec)
    assert student_spec(StudentConfig(name="own-layers")) == spec
    other = student_spec(StudentConfig(name="own-layers", hidden=[5], noise="coloured", activation="softplus"))
    assert other == NetSpec(
        spec.convs, (5,), "softplus", band_limit=(0.0, 0.5), noise="coloured", noise_at_play=True
    )  # fmt: skip
    with pytest.raises(UserError, match="for each of 1 convolutions"):
        AtariCNN(student_spec(StudentConfig(name="own-layers", convs=[(4, 8, 4)])), 6)
