"""First layers that a student has from its teacher."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from distill.errors import UserError
from distill.networks.inherit import inherit, refuse_other_eyes, strongest
from distill.networks.nets import NETS, AtariCNN, NetSpec


def net(name: str, seed: int = 0) -> AtariCNN:
    torch.manual_seed(seed)
    return AtariCNN(NETS[name], 6)


def test_a_student_of_the_same_layers_has_the_teachers_features() -> None:
    student, teacher, x = net("nature", 1), net("nature", 2), torch.rand(2, 4, 84, 84)
    inherit(student, teacher, 2)
    assert torch.equal(student.features[:4](x), teacher.features[:4](x))
    assert not torch.equal(student.features[4].weight, teacher.features[4].weight)  # type: ignore[arg-type]


def test_a_narrower_student_has_the_strongest_filters_and_their_connections() -> None:
    student, teacher, x = net("nature-half", 1), net("nature", 2), torch.rand(2, 4, 84, 84)
    with torch.no_grad():
        teacher.features[0].weight[::2] *= 10  # type: ignore[index, operator]
        teacher.features[2].weight[1::2] *= 10  # type: ignore[index, operator]
        teacher.features[0].bias.normal_()  # type: ignore[operator, union-attr]
    inherit(student, teacher, 2)
    assert torch.allclose(student.features[:2](x), teacher.features[:2](x)[:, ::2], atol=1e-4)
    seen = teacher.features[:2](x)
    seen[:, 1::2] = 0  # what the student left out
    assert torch.allclose(student.features[:4](x), teacher.features[2:4](seen)[:, 1::2], rtol=1e-4, atol=1e-3)


def test_strength_is_a_filters_norm_times_that_of_what_reads_it() -> None:
    layer, above = nn.Conv2d(1, 3, 1), torch.ones(2, 3 * 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1))
    above[:, 8:] = 0.1
    assert strongest(layer, above, 2).tolist() == [0, 1]


def test_inherited_layers_stay_and_others_learn() -> None:
    student = net("mnih2013")
    inherit(student, net("nature", 2), 1)
    student(torch.rand(1, 4, 84, 84)).sum().backward()
    assert student.features[0].weight.grad is None  # type: ignore[union-attr]
    assert student.features[2].weight.grad is not None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("student", "layers", "told"),
    [
        (NETS["mnih2013"], 3, "the student has 2 convolutions and its teacher 3"),
        (
            dataclasses.replace(NETS["mnih2013"], convs=((16, 6, 4), (32, 4, 2))),
            1,
            "is 16 x 6/4 and its teacher's 32 x 8/4",
        ),
        (
            dataclasses.replace(NETS["mnih2013"], convs=((64, 8, 4), (32, 4, 2))),
            1,
            "is 64 x 8/4 and its teacher's 32 x 8/4",
        ),
        (dataclasses.replace(NETS["mnih2013"], noise="white"), 1, "the student has convolutions with noise"),
        (
            dataclasses.replace(NETS["mnih2013"], band_limit=(0.5, 0.0)),
            1,
            "the student has convolutions with noise or a",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused(student: NetSpec, layers: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        inherit(AtariCNN(student, 6), net("nature"), layers)


def test_networks_without_known_layers_are_refused() -> None:
    with pytest.raises(UserError, match="its teacher is a network that is not described by its layers"):
        inherit(net("mnih2013"), nn.Flatten(), 1)


def test_other_pixels_are_refused() -> None:
    refuse_other_eyes("sb3", "sb3")
    with pytest.raises(UserError, match="the teacher sees preset sb3 and the student dopamine"):
        refuse_other_eyes("sb3", "dopamine")
