from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from distill.errors import UserError
from distill.losses.matching import MATCHES, blur_matrix, match
from distill.losses.sobolev import Objective

SCALE = 300.0


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Student's and teacher's derivatives, (3, 4, 20, 20), of different lengths."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 20, 20, generator=generator, dtype=torch.float64)
    return 3 * student, 0.5 * teacher + 0.2 * student


def plain(name: str, student: Tensor, teacher: Tensor, blur: Tensor | None) -> Tensor:
    if blur is not None:
        student, teacher = (torch.einsum("ij,bcjk,kl->bcil", blur, part, blur) for part in (student, teacher))
    squares = ((student - teacher) ** 2).sum((1, 2, 3))
    if name == "weighted":
        return squares / (1 + (teacher**2).sum((1, 2, 3)) / SCALE)
    if name != "cosine":
        return squares if name == "l2" else squares.sqrt()
    return 1 - torch.cosine_similarity(student.flatten(1), teacher.flatten(1))


@pytest.mark.parametrize("name", MATCHES)
@pytest.mark.parametrize("sigma", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_value_and_slope(pair: tuple[Tensor, Tensor], name: str, sigma: float, memory: torch.memory_format) -> None:
    student, teacher = (part.contiguous(memory_format=memory) for part in pair)
    blur = blur_matrix(sigma, 20).double() if sigma else None
    loss, slope = match(name, student, teacher, blur, SCALE)
    leaf = student.clone().requires_grad_()
    want = plain(name, leaf, teacher, blur)
    (want_slope,) = torch.autograd.grad(want.sum(), leaf)
    assert loss.shape == (3,)
    torch.testing.assert_close(loss, want.detach())
    torch.testing.assert_close(slope, want_slope)


def test_inputs_are_left_alone(pair: tuple[Tensor, Tensor]) -> None:
    before = [part.clone() for part in pair]
    for name in MATCHES:
        match(name, *pair)[1].zero_()
    assert all(torch.equal(part, old) for part, old in zip(pair, before, strict=True))


def test_cosine_is_blind_to_length_and_l2_is_not(pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = pair
    torch.testing.assert_close(match("cosine", 5 * student, teacher)[0], match("cosine", student, teacher)[0])
    assert (match("l2", 5 * student, teacher)[0] > 2 * match("l2", student, teacher)[0]).all()
    torch.testing.assert_close(match("cosine", teacher, teacher)[0], torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(match("cosine", -teacher, teacher)[0], torch.full((3,), 2.0, dtype=torch.float64))


def test_a_teacher_without_a_slope_gives_no_nan(pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = pair
    loss, slope = match("cosine", student, torch.zeros_like(teacher))
    assert loss.tolist() == [1.0, 1.0, 1.0]
    assert slope.abs().max() == 0


@pytest.mark.parametrize("name", MATCHES)
def test_a_student_without_an_error_has_no_slope(pair: tuple[Tensor, Tensor], name: str) -> None:
    loss, slope = match(name, pair[1].clone(), pair[1], None, SCALE)
    assert loss.abs().max() < 1e-9
    assert slope.abs().max() < 1e-9


@pytest.mark.parametrize("name", MATCHES)
def test_a_student_that_knows_nothing_has_a_loss_of_about_one(name: str) -> None:
    teacher = torch.randn(64, 4, 20, 20, generator=torch.Generator().manual_seed(0))
    scale = float(teacher.flatten(1).square().sum(1).mean())
    loss, _ = match(name, torch.zeros_like(teacher), teacher, None, scale)
    want = 0.5 if name == "weighted" else 1
    assert float(loss.mean()) / MATCHES[name].unit(scale) == pytest.approx(want, rel=0.05)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0])
def test_blur_matrix(sigma: float) -> None:
    blur = blur_matrix(sigma)
    assert blur.shape == (84, 84)
    assert blur.dtype == torch.float32
    assert torch.equal(blur, blur.T)
    sums = blur.sum(1)
    inner = slice(int(4 * sigma) + 1, 84 - int(4 * sigma) - 1)
    torch.testing.assert_close(sums[inner], torch.ones_like(sums[inner]), rtol=1e-4, atol=1e-4)
    assert sums[0] < 0.9  # the kernel is cut at the border, not renormalised
    image = torch.randn(84, 84, generator=torch.Generator().manual_seed(0))
    want = gaussian_filter(image.numpy(), sigma, mode="constant", truncate=8.0)
    torch.testing.assert_close(blur @ image @ blur, torch.from_numpy(want), rtol=1e-3, atol=1e-3)


def test_unknown_match_suggests_the_nearest(pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UserError, match=r"unknown match 'cosin' \(did you mean 'cosine'\?\)"):
        match("cosin", *pair)
    with pytest.raises(UserError, match=r"unknown match 'L2' .*known: l2, cosine, norm, weighted"):
        Objective(match="L2")
