"""Adversarial training: which states are attacked, with what labels, and that a run goes on to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill import api
from distill.config.config import Config
from distill.config.stages import train
from distill.errors import UserError
from distill.networks.build import build_student
from distill.networks.settings import StudentConfig
from distill.students.folder import load_student
from tests.fixtures.attacks import BY_NAME, FAILS

Quick = Callable[..., Config]
PGD: dict[str, Any] = {"adversary": "pgd", "adversary_eps": 3.0, "adversary_share": 0.25}


def net_of(**student: Any) -> nn.Module:
    torch.manual_seed(1)
    net = build_student(StudentConfig(convs=[(4, 8, 4)], hidden=[8], **student), 6)
    with torch.no_grad():
        net.policy.weight.mul_(100)  # type: ignore[union-attr,operator]
    return net


def pair(quick: Quick, net: nn.Module, **settings: Any) -> tuple[list[api.Batch], list[api.Batch]]:
    """The first two batches of a training with an adversary, and of one without."""
    objective = settings.pop("objective", {})
    found = []
    for extra in (settings, {}):
        lesson = api.lesson(quick(train=extra, objective=objective), net)
        found.append(list(lesson.batches(0, 2, 12)))
    return found[0], found[1]


@pytest.mark.parametrize("student", [{}, {"noise": "white"}, {"noise": "white", "noise_on": "activations"}])
def test_the_last_states_are_attacked_and_keep_their_labels(quick: Quick, student: dict[str, Any]) -> None:
    net = net_of(**student)
    for batch, clean in zip(*pair(quick, net, **PGD), strict=True):
        assert batch.obs.dtype == torch.uint8
        moved = (batch.obs.int() - clean.obs.int()).abs().flatten(1).amax(1)
        assert moved.tolist() == [0] * 12 + [3] * 4
        assert torch.equal(batch.logits, clean.logits)
    assert net.training


def test_the_attack_is_of_the_network_as_it_is(quick: Quick) -> None:
    net = net_of()
    attacked, clean = pair(quick, net, **PGD, adversary_steps=10)
    x, y = (batch.obs[12:] / 255 for batch in (clean[0], attacked[0]))
    best = net(x).argmax(-1, keepdim=True)
    before, after = (net(part).log_softmax(-1).gather(1, best) for part in (x, y))
    assert (after < before).all()


def test_the_pixels_of_largest_influence(quick: Quick) -> None:
    attacked, clean = pair(quick, net_of(), adversary="influence", adversary_pixels=7)
    changed = attacked[0].obs != clean[0].obs
    assert changed[:8].sum() == 0
    assert changed[8:, :3].sum() == 0, "only the newest frame"
    assert set(changed[8:].flatten(1).sum(1).tolist()) <= set(range(1, 8))
    assert set(attacked[0].obs[changed].tolist()) <= {0, 255}


def test_states_with_derivatives_stay_clean(quick: Quick) -> None:
    net, sobolev = net_of(), {"jacobian_weight": 1.0, "jacobian_share": 0.5}
    attacked, clean = pair(quick, net, **{**PGD, "adversary_share": 0.5}, objective=sobolev)
    assert attacked[0].targets is not None
    assert len(attacked[0].targets.v) == 8
    assert torch.equal(attacked[0].obs[:8], clean[0].obs[:8])
    message = r"--train\.adversary_share=0\.6 of each batch is to be attacked, but 0\.5 of it carries derivatives"
    with pytest.raises(UserError, match=message):
        api.lesson(quick(train={**PGD, "adversary_share": 0.6}, objective=sobolev), net)


def test_what_cannot_be_attacked_leaves_no_folder(quick: Quick, tmp_path: Path) -> None:
    sobolev = {"jacobian_weight": 1.0, "jacobian_share": 0.5}
    with pytest.raises(UserError, match="carries derivatives of the clean pixels"):
        train(quick("run", train={**PGD, "adversary_share": 0.6}, objective=sobolev))
    assert not (tmp_path / "run").exists()


def test_an_adversary_that_fails_leaves_no_folder(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=FAILS):
        train(quick("run", train={**PGD, "adversary": BY_NAME}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [7, 15])
def test_rounded_shares_do_not_overlap(quick: Quick, size: int) -> None:
    objective = {"jacobian_weight": 1.0, "jacobian_share": 0.5}
    lessons = [
        api.lesson(quick(train={"batch_size": size, **extra}, objective=objective), net_of())
        for extra in ({**PGD, "adversary_share": 0.5}, {})
    ]
    attacked, clean = (next(iter(lesson.batches(0, 1, 12))) for lesson in lessons)
    assert attacked.targets is not None
    carrying = len(attacked.targets.v)
    assert carrying == size // 2 + 1
    moved = (attacked.obs != clean.obs).flatten(1).any(1)
    assert moved.tolist() == [number >= carrying for number in range(size)]


def test_a_run_depends_on_seed_and_step_alone(quick: Quick) -> None:
    def weights(name: str, **settings: Any) -> dict[str, torch.Tensor]:
        run = train(quick(name, train=settings, student={"noise": "white"}))
        return dict(load_student(run).net.state_dict())

    whole = weights("whole", **PGD)
    weights("half", **PGD, last_step=5, checkpoint_every=1)
    second = weights("second", **PGD, fork_from=str(quick("half").train.out))
    plain = weights("plain")
    assert all(torch.equal(weight, second[name]) for name, weight in whole.items())
    assert not torch.equal(whole["policy.weight"], plain["policy.weight"])


def test_a_small_share_is_one_state(quick: Quick) -> None:
    attacked, clean = pair(quick, net_of(), **{**PGD, "adversary_share": 0.01})
    for one, other in zip(attacked, clean, strict=True):
        assert (one.obs != other.obs).flatten(1).any(1).tolist() == [False] * 15 + [True]


def test_a_batch_without_a_state_to_attack_is_refused(quick: Quick) -> None:
    objective = {"jacobian_weight": 1.0, "jacobian_share": 0.9}
    with pytest.raises(UserError, match=r"--train\.batch_size=4: all states of a batch carry derivatives .* raise it"):
        api.lesson(quick(train={**PGD, "adversary_share": 0.1, "batch_size": 4}, objective=objective), net_of())


def test_papers_tell_of_the_adversary(quick: Quick) -> None:
    told = {"method": "pgd", "eps": 3.0, "share": 0.25, "steps": 1, "pixels": 10}
    run = train(quick("run", train={**PGD, "adversary_steps": 1}))
    assert load_student(run).training.adversary == told
    plain = train(quick("plain"))
    assert load_student(plain).training.adversary is None
    assert "adversary" not in (plain / "student" / "student.json").read_text()


@pytest.mark.parametrize(("settings", "message"), [
    ({"adversary": "pdg"}, r"unknown attack 'pdg' \(did you mean 'pgd'\?\)"),
    ({"adversary": "pgd", "adversary_eps": 0.5}, "adversary_eps must be between 1 and 255, got 0.5"),
    ({"adversary": "pgd", "adversary_eps": 2.5}, "adversary_eps must be a whole number of at least 1.*, got 2.5"),
    ({"adversary_share": 0.0}, "adversary_share must be above 0, and at most 1"),
])  # fmt: skip
def test_what_cannot_be_is_refused(quick: Quick, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        quick(train=settings)
