"""What the ways to perturb pixels may do, and that they do it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.attack.measure import States, harm
from distill.attack.method import ATTACKS, Scene
from distill.attack.settings import ThreatConfig
from distill.attack.swarm import apart, around, put, search
from distill.attack.victim import SURE, Victim
from distill.dataset.reader import Dataset
from distill.errors import UserError
from teachers.load import load_teacher

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pixels(pong_data: Path) -> Tensor:
    data = Dataset(pong_data, jacobian=False)
    return torch.from_numpy(data.stacks(torch.arange(100, 148).numpy()))


@pytest.fixture(scope="module")
def teacher() -> Victim:
    return Victim(load_teacher("pong").net, CPU)


def scene(x: Tensor, victim: Victim, eps: float = 2.0, **threat: object) -> Scene:
    generator = torch.Generator().manual_seed(3)
    return Scene(x, victim, eps, ThreatConfig(**threat), generator)  # type: ignore[arg-type]


def probability(victim: Victim, x: Tensor, action: Tensor) -> Tensor:
    return victim.logits(x).softmax(-1).gather(1, action[:, None])[:, 0]


@pytest.mark.parametrize("name", ["noise", "fgsm", "pgd"])
@pytest.mark.parametrize("eps", [1.0, 2.5, 8.0])
def test_no_pixel_goes_further_than_eps(name: str, eps: float, pixels: Tensor, teacher: Victim) -> None:
    moved = ATTACKS[name].perturb(scene(pixels, teacher, eps))
    assert (moved.dtype, moved.shape) == (torch.uint8, pixels.shape)
    change = (moved.int() - pixels.int()).abs()
    assert int(change.max()) == int(eps)
    assert change.float().mean() > 0.3 * eps


@pytest.mark.parametrize("name", ["noise", "fgsm", "pgd"])
def test_under_l2_the_root_mean_square_is_bounded(name: str, pixels: Tensor, teacher: Victim) -> None:
    moved = ATTACKS[name].perturb(scene(pixels, teacher, 2.0, norm="l2"))
    rms = (moved.float() - pixels.float()).square().flatten(1).mean(1).sqrt()
    assert float(rms.max()) < 2.3  # whole gray levels
    if name != "noise":
        assert (moved.int() - pixels.int()).abs().max() > 10  # where it matters most


def test_fgsm_follows_the_gradient(pixels: Tensor, teacher: Victim) -> None:
    x = (pixels[:8] / 255).requires_grad_()
    logits = teacher.net(x)
    F.cross_entropy(logits, logits.argmax(-1), reduction="sum").backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    want = (pixels[:8].float() + 2 * x.grad.sign()).clamp(0, 255)
    moved = ATTACKS["fgsm"].perturb(scene(pixels[:8], teacher))
    assert (moved.float() == want).float().mean() > 0.999  # a slope of nearly 0 has no sure sign


def test_pgd_does_more_harm_than_fgsm_and_that_more_than_noise(pixels: Tensor, teacher: Victim) -> None:
    best = teacher.logits(pixels).argmax(-1)
    left = {
        name: float(probability(teacher, ATTACKS[name].perturb(scene(pixels, teacher, 1.0)), best).log().mean())
        for name in ("noise", "fgsm", "pgd")
    }
    assert left["pgd"] < left["fgsm"] - 1 < left["noise"] - 2


def test_a_target_becomes_likelier(pixels: Tensor, teacher: Victim) -> None:
    target = torch.full((len(pixels),), 3)
    before = probability(teacher, pixels, target).mean()
    for name in ("fgsm", "pgd", "swarm"):
        moved = ATTACKS[name].perturb(scene(pixels, teacher, 4.0, target=3, iterations=3))
        assert probability(teacher, moved, target).mean() > before + 0.02, name


@pytest.mark.parametrize("name", ["swarm", "swarm-random", "swarm-slope"])
def test_a_swarm_changes_few_pixels_of_the_newest_frame(name: str, pixels: Tensor, teacher: Victim) -> None:
    part = pixels[:16]
    best = teacher.logits(part).argmax(-1)
    moved = ATTACKS[name].perturb(scene(part, teacher, pixels=5, iterations=5))
    assert torch.equal(moved[:, :-1], part[:, :-1])
    assert int((moved[:, -1] != part[:, -1]).flatten(1).sum(1).max()) <= 5
    before, after = probability(teacher, part, best), probability(teacher, moved, best)
    assert (after <= before).all()  # one particle begins at what is there
    assert after.mean() < before.mean()


def test_the_pixels_of_largest_influence_go_as_far_as_they_can(pixels: Tensor, teacher: Victim) -> None:
    part = pixels[:16]
    best = teacher.logits(part).argmax(-1)
    moved = ATTACKS["influence"].perturb(scene(part, teacher, pixels=5))
    changed = moved != part
    highest = teacher.influence(part, 1).flatten(1).topk(5, dim=1).indices
    within = torch.zeros(16, 84 * 84, dtype=torch.bool).scatter_(1, highest, True)
    assert not changed[:, :-1].any()
    assert not (changed[:, -1].flatten(1) & ~within).any()
    assert set(moved[changed].tolist()) <= {0, 255}
    slope = teacher.slope(part, best, False)[:, -1].flatten(1)[within]
    assert torch.equal(moved[:, -1].flatten(1)[within] == 255, slope > 0)


def test_patches_of_a_swarm() -> None:
    centres = torch.tensor([[0, 84 * 40 + 40]])
    found = around(centres, 3)[0]
    middle = {84 * row + column for row in (39, 40, 41) for column in (39, 40, 41)}
    assert set(found[9:].tolist()) == middle
    assert set(found[:9].tolist()) == {0, 1, 84, 85}  # what lies over the edge is moved to it
    x = torch.zeros(1, 4, 84, 84, dtype=torch.uint8)
    changed = put(x, centres, torch.tensor([[7.4, 300.0]]))
    assert (int(changed[0, 3, 0, 0]), int(changed[0, 3, 40, 40]), int(changed.sum())) == (7, 255, 262)


def test_steep_pixels_turn_more_states_than_random_ones(pixels: Tensor, teacher: Victim) -> None:
    best = teacher.logits(pixels).argmax(-1)
    turned = {
        name: int((teacher.logits(ATTACKS[name].perturb(scene(pixels, teacher))).argmax(-1) != best).sum())
        for name in ("swarm-slope", "swarm-random")
    }
    assert turned["swarm-slope"] > 1.2 * turned["swarm-random"]


def test_patches_are_chosen_apart(pixels: Tensor, teacher: Victim) -> None:
    """As many pixels as asked for, though the highest scores are neighbours'."""
    rows, columns = torch.meshgrid(torch.arange(84), torch.arange(84), indexing="ij")
    hill = -((rows - 40) ** 2 + (columns - 50) ** 2).flatten()[None].float()
    middles = apart(hill, 5, 3)
    assert middles[0, 0] == 84 * 40 + 50
    assert len(set(around(middles, 3)[0].tolist())) == 5 * 9
    assert torch.equal(apart(hill, 5, 1), hill.topk(5).indices)
    moved = ATTACKS["swarm"].perturb(scene(pixels[:4], teacher, pixels=4, patch=3, iterations=2, confidence=1.0))
    assert ((moved != pixels[:4]).flatten(1).sum(1) > 2 * 9).all()


def test_patches_that_overlap_have_one_value_where_they_do() -> None:
    x = torch.full((1, 4, 84, 84), 9, dtype=torch.uint8)
    for values in ([[3.0, 250.0, 8.0]], [[250.0, 3.0, 8.0]]):
        changed = put(x, torch.tensor([[5, 5, 6]]), torch.tensor(values))
        assert changed[0, 3, 0, 5:8].tolist() == [250, 8, 9]


class Undecided(nn.Module):
    """Three actions; the first is best at black, by less than a half, and the second where one pixel is bright."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, -1, 10, 10]
        return torch.stack([1 + 0 * bright, 0.5 + 2 * bright, 0.4 + 0 * bright], 1)


def test_a_swarm_goes_on_until_another_action_is_best() -> None:
    """Where several actions do the same, the best one seldom has a half."""
    x, victim = torch.zeros(3, 4, 84, 84, dtype=torch.uint8), Victim(Undecided(), CPU)
    assert (victim.logits(x).softmax(-1)[:, 0] < 0.5).all()
    moved = ATTACKS["swarm"].perturb(scene(x, victim, pixels=1))
    assert (victim.logits(moved).argmax(-1) == 1).all()


class Noisy(nn.Module):
    """A network that draws noise of its own on its pixels."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.02 * torch.randn_like(x))  # type: ignore[no-any-return]


def test_slopes_are_means_over_draws(pixels: Tensor) -> None:
    net, part = load_teacher("pong").net, pixels[:4]
    action = torch.zeros(4, dtype=torch.int64)
    torch.manual_seed(0)
    many, others = (Victim(Noisy(net), CPU, draws=40).slope(part, action, False) for _ in range(2))
    one, another = (Victim(Noisy(net), CPU, draws=1).slope(part, action, False) for _ in range(2))

    def alike(a: Tensor, b: Tensor) -> float:
        return float(F.cosine_similarity(a.flatten(1), b.flatten(1)).mean())

    assert alike(many, others) > alike(one, another) + 0.1


class Fickle(nn.Module):
    """Likes or dislikes what it sees, by chance."""

    def forward(self, x: Tensor) -> Tensor:
        liked = x[:, -1, 0, 0] * 2 * (2 * torch.randint(0, 2, (len(x),)) - 1)
        return torch.stack([liked, 0 * liked], 1)


def test_a_slope_is_of_one_draw_at_a_time() -> None:
    """The mean of products is not the product of means: what is liked and what is likely hang together."""
    torch.manual_seed(0)
    x = torch.full((20, 4, 84, 84), 255, dtype=torch.uint8)
    slope = Victim(Fickle(), CPU, draws=100).slope(x, torch.zeros(20, dtype=torch.int64), False)
    want = 2 * torch.sigmoid(torch.tensor(2.0)) - 1
    assert float(slope[:, -1, 0, 0].mean()) == pytest.approx(float(want), abs=0.1)


def sharper(net: nn.Module, factor: float) -> nn.Module:
    """The same decisions, far surer."""
    sure = copy.deepcopy(net)
    with torch.no_grad():
        for part in sure.policy.parameters():  # type: ignore[union-attr]
            part.mul_(factor)
    return sure


@pytest.mark.parametrize("towards", [False, True])
@pytest.mark.parametrize("engine", [True, False])
@pytest.mark.parametrize("factor", [1.0, 30.0, 1000.0])
def test_slopes_against_autograd(factor: float, engine: bool, towards: bool, pixels: Tensor, teacher: Victim) -> None:
    """In double precision with log(1 - p) from the others' logits, which no sharpness takes away."""
    net, part = sharper(teacher.net, factor), pixels[:6]
    victim = Victim(net if engine else Wrapped(net), CPU)
    action = victim.logits(part).argmax(-1)
    x = (part.double() / 255).requires_grad_()
    log_p = copy.deepcopy(net).double()(x).log_softmax(-1)
    others = log_p.scatter(1, action[:, None], -torch.inf).logsumexp(-1)
    (odds,) = torch.autograd.grad((log_p.gather(1, action[:, None])[:, 0] - others).sum(), x)
    length = others.detach().exp().clamp_min(SURE)[:, None, None, None]
    want = (1 if towards else -1) * length * odds
    off = (victim.slope(part, action, towards) - want).flatten(1).norm(dim=1) / want.flatten(1).norm(dim=1)
    assert float(off.max()) < 0.03  # a unit at its kink may be on in one precision and off in another


class Wrapped(nn.Module):
    """A network that the engine does not know."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "swarm-slope"])
def test_a_sure_agent_is_no_more_robust(name: str, norm: str, pixels: Tensor, teacher: Victim) -> None:
    """A low temperature changes no decision, so it is no defence."""
    part, turned = pixels[:24], []
    for factor in (1.0, 1000.0):
        victim = Victim(sharper(teacher.net, factor), CPU)
        moved = ATTACKS[name].perturb(scene(part, victim, 1.0, norm=norm))
        turned.append(int((victim.logits(moved).argmax(-1) != victim.logits(part).argmax(-1)).sum()))
    assert turned[0] >= 20
    assert turned[1] >= turned[0] - 2


class Wavering(nn.Module):
    """Two actions; the first is the best at black for most draws, at a bright pixel for few, though now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0

    def forward(self, x: Tensor) -> Tensor:
        self.turn += 1
        bright, lucky = x[:, -1, 10, 10] > 0.9, self.turn % 4 == 0
        likes = torch.where(bright, torch.full((len(x),), -2.0), torch.full((len(x),), -9.0 if lucky else 2.0))
        return torch.stack([likes, 0 * likes], 1)


def test_a_swarm_and_the_goal_ask_for_means_over_draws() -> None:
    """What one draw says by luck is neither the agent's action, nor a success."""
    x = torch.zeros(2, 4, 84, 84, dtype=torch.uint8)
    x[1, -1, 10, 10] = 255
    victim = Victim(Wavering(), CPU, draws=4)
    p = victim.log_policy(x).exp()
    rare, usual = (torch.sigmoid(torch.tensor(v)) for v in (-9.0, 2.0))
    want = torch.stack([(3 * usual + rare) / 4, torch.sigmoid(torch.tensor(-2.0))])
    torch.testing.assert_close(p[:, 0], want)
    for turn in range(4):
        victim.net.turn = turn  # type: ignore[assignment]
        assert scene(x, victim).goal()[0].tolist() == [0, 1]
    pixel = torch.tensor([[84 * 10 + 10]])
    moved = search(scene(x[:1], victim, particles=30), pixel)
    assert int(moved[0, -1, 10, 10]) > 0.9 * 255


class Deaf(nn.Module):
    """A network without derivatives, such as one of another runtime."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), 6)


def test_an_agent_without_derivatives_needs_a_source(pixels: Tensor, teacher: Victim) -> None:
    deaf = Victim(Deaf(), CPU)
    for name in ("fgsm", "pgd", "swarm"):
        with pytest.raises(UserError, match=r"has no derivatives, which the attack needs; name with --threat\.source"):
            ATTACKS[name].perturb(scene(pixels[:2], deaf, iterations=1))
    states = States(pixels[:4], torch.zeros(4, 6))
    found = harm(deaf, states, lambda x: ATTACKS["fgsm"].perturb(scene(x, teacher)), None)
    assert (found.flips, found.changed) == (0, pytest.approx(2, abs=0.1))


def test_harm_against_a_plain_count(pixels: Tensor, teacher: Victim) -> None:
    labels = teacher.logits(pixels).roll(1, 0)
    found = harm(teacher, States(pixels, labels), lambda x: ATTACKS["fgsm"].perturb(scene(x, teacher, 1.0)), None)
    moved = ATTACKS["fgsm"].perturb(scene(pixels, teacher, 1.0))
    logits = teacher.logits(moved)
    assert found.action_error == pytest.approx(float((logits.argmax(-1) != labels.argmax(-1)).float().mean()))
    assert found.flips == pytest.approx(float((logits.argmax(-1) != teacher.logits(pixels).argmax(-1)).float().mean()))
    kl = F.kl_div(logits.log_softmax(-1), labels.log_softmax(-1), log_target=True, reduction="batchmean")
    assert found.kl == pytest.approx(float(kl), rel=1e-4)
    assert found.hits is None
    clean = harm(teacher, States(pixels, labels), lambda x: x, 2)
    assert (clean.flips, clean.changed) == (0, 0)
    assert clean.hits == pytest.approx(float((teacher.logits(pixels).argmax(-1) == 2).float().mean()))
