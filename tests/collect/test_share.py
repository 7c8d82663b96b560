"""Derivatives of a share of the states: which ones, that they are the ones they were, and what is not computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill.agents.actor import Policy
from distill.cli.command import main
from distill.collect.games import BLOCK, carriers
from distill.collect.label import Labeller, Seen
from distill.collect.order import identify
from distill.collect.summary import Summary
from distill.collect.verify import verify
from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.codec import decode
from distill.dataset.reader import Dataset
from distill.dataset.schema import GAME_BITS, GAME_MASK
from distill.engine.engine import Engine
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec
from distill.students.folder import save_student
from distill.task import Task
from teachers.load import load_teacher

Collect = Callable[..., Summary]
KINDS: dict[str, dict[str, Any]] = {
    "projected": {"k": 3},
    "fisher": {"law": "fisher", "space": "log_probs"},
    "full": {"jacobian": "full", "codec": "fp16"},
}


@pytest.fixture
def run(make_config: Callable[..., Config], tmp_path: Path) -> Collect:
    """``run("data", jacobian_share=0.25, ...)``: a quick collection below ``tmp_path``."""

    def start(out: str, **settings: Any) -> Summary:
        quick = {"states": 192, "num_envs": 2, "shard_states": 96}
        return collect(make_config(collect={**quick, **settings, "out": str(tmp_path / out)}))

    return start


def carrying(folder: Path) -> dict[tuple[str, int, int], bool]:
    """Whether each state carries derivatives, by (writer, game, step)."""
    data = Dataset(folder)
    writers = [data.writers[game >> GAME_BITS] for game in data.episode.tolist()]
    keys = zip(writers, (data.episode & GAME_MASK).tolist(), data.t.tolist(), strict=True)
    return dict(zip(keys, data.carries.tolist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_carry_are_labelled_as_all_would_be(run: Collect, tmp_path: Path, kind: str) -> None:
    """Bit for bit, as long as a matrix product does not round otherwise because it is of three states or fewer."""
    run("all", **KINDS[kind])
    run("some", jacobian_share=0.25, **KINDS[kind])
    every, some = (Dataset(tmp_path / name, verify=True) for name in ("all", "some"))
    for name in ("frames", "logits", "value", "action", "t", "episode"):
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name), err_msg=name)
    index = np.flatnonzero(some.carries)
    assert 48 - 2 <= len(index) <= 48 + 2
    for name in ("codes", "scale"):
        np.testing.assert_array_equal(getattr(some.jacobian(index), name), getattr(every.jacobian(index), name))
    if every.v is not None:
        assert some.v is not None
        np.testing.assert_array_equal(some.v[some.rows_of(index)], every.v[index])
    stored = some.jacobian(index)
    squares = (stored.codes.astype(np.float32) * stored.scale[..., None]) ** 2
    assert some.jacobian_scale == pytest.approx(squares.sum((2, 3, 4)).mean(), rel=0.01)


def test_the_disk_holds_the_share(run: Collect, tmp_path: Path) -> None:
    sizes = {}
    for share in (1.0, 0.25):
        run(str(share), jacobian_share=share)
        sizes[share] = sum(path.stat().st_size - 128 for path in (tmp_path / str(share)).glob("shards/*/jacobian.npy"))
    assert sizes[1.0] == 192 * 4 * 84 * 84
    assert sizes[0.25] == Dataset(tmp_path / "0.25").carries.sum() * 4 * 84 * 84
    assert sizes[0.25] / sizes[1.0] == pytest.approx(0.25, abs=0.02)


def test_which_states_carry_depends_on_their_game_alone(run: Collect, tmp_path: Path) -> None:
    """Not on lanes, shards, interruptions, or on what the derivatives are."""
    share = {"jacobian_share": 0.3}
    run("a", states=200, num_envs=2, shard_states=80, **share)
    run("b", states=300, num_envs=5, shard_states=97, k=2, codec="fp16", **share)
    run("c", states=60, num_envs=4, shard_states=60, **share)
    run("c", states=120, num_envs=3, shard_states=60, **share)
    a, *others = (carrying(tmp_path / name) for name in "abc")
    for other in others:
        shared = a.keys() & other.keys()
        assert len(shared) >= 30
        assert {key: a[key] for key in shared} == {key: other[key] for key in shared}
    run("d", states=200, num_envs=2, shard_states=80, writer="other", **share)
    assert list(carrying(tmp_path / "d").values()) != list(a.values())


@pytest.mark.parametrize("share", [0.01, 0.25, 1 / 3, 0.5, 0.9])
def test_of_every_block_the_share_carries_at_random_places(share: float) -> None:
    games = [carriers(np.random.default_rng(seed), share) for seed in range(400)]
    drawn = np.array([[next(game) for _ in range(20 * BLOCK)] for game in games])
    assert abs(drawn.sum(1) - 20 * BLOCK * share).max() < 1
    blocks = drawn.reshape(400, 20, BLOCK).sum(2)
    assert abs(blocks - BLOCK * share).max() < 1
    # Every place of every block alike: four standard errors of 400 draws.
    assert abs(drawn.mean(0) - share).max() < 4.5 * (share * (1 - share) / 400) ** 0.5
    # Neighbours do not keep apart, as at a fixed step from one to the next, beyond what their block's count asks.
    pairs = (drawn[:, 1:] & drawn[:, :-1]).mean()
    assert share < 0.1 or 0.75 * share**2 < pairs < 1.1 * share**2


@pytest.mark.parametrize("actor", ["teacher", "student"])
def test_only_derivatives_that_are_stored_are_computed(
    run: Collect, tmp_path: Path, actor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    rows = Engine.rows

    def counted(engine: Engine, tape: Any, v: Tensor) -> Tensor:
        computed.append(len(v))
        return rows(engine, tape, v)

    monkeypatch.setattr(Engine, "rows", counted)
    who = "teacher" if actor == "teacher" else str(student(tmp_path))
    run("data", jacobian_share=0.25, actor=who)
    assert sum(computed) == Dataset(tmp_path / "data").carries.sum()


def student(folder: Path) -> Path:
    """A small untrained student."""
    torch.manual_seed(0)
    save_student(folder / "student", AtariCNN(NetSpec(((4, 8, 4),), (8,)), 6), Task("pong", "sb3", PONG, 6))
    return folder


PONG = get_preset("sb3").hash


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_a_student_plays_and_the_teacher_differentiates_some_states(run: Collect, tmp_path: Path, beta: float) -> None:
    run("data", jacobian_share=0.25)
    run("data", jacobian_share=0.25, actor=str(student(tmp_path)), beta=beta, states=100)
    data = Dataset(tmp_path / "data", verify=True)
    assert sorted(set(data.writer)) == [0, 1]
    for writer in (0, 1):
        mine = data.writer == writer
        assert data.carries[mine].mean() == pytest.approx(0.25, abs=0.03)
    verdict = verify(tmp_path / "data", load_teacher("pong"), sample=400)
    assert verdict.sampled == 292
    assert verdict.jacobian_error is not None
    assert 0.001 < verdict.jacobian_error < 0.02


class Stranger(nn.Module):
    """The same function as a network that the engine knows, unknown to it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.inside = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inside(x)
        return out


@pytest.mark.parametrize("network", ["engine", "autograd"])
@pytest.mark.parametrize("which", [[], [2], [0, 3, 4], list(range(6))])
def test_any_teacher_labels_some_states(
    make_config: Callable[..., Config], pong_data: Path, network: str, which: list[int]
) -> None:
    teacher, data = load_teacher("pong"), Dataset(pong_data)
    identity = identify(make_config(collect={"k": 2, "codec": "fp16", "jacobian_share": 0.5}), teacher)
    net = teacher.net if network == "engine" else Stranger(teacher.net)
    labeller = Labeller(Policy(net, torch.device("cpu")), identity, "pong")
    obs, normal = data.stacks(np.arange(6)), torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    carries = np.isin(np.arange(6), which)
    whole = labeller.label([Seen(normal, np.ones(6, bool), obs=obs)])
    part = labeller.label([Seen(normal, carries, obs=obs)])
    np.testing.assert_array_equal(part.logits, whole.logits)
    np.testing.assert_array_equal(part.v, whole.v[carries])
    assert part.jacobian is not None
    assert whole.jacobian is not None
    assert part.jacobian.codes.shape == (len(which), 2, 4, 84, 84)
    assert part.jacobian.codes.dtype == np.float16
    np.testing.assert_allclose(
        decode(part.jacobian, "fp16"), decode(whole.jacobian, "fp16")[carries], rtol=2e-3, atol=1e-4
    )


def test_a_shard_in_which_no_state_carries(run: Collect, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("data", jacobian_share=0.02, states=90, shard_states=18)
    data = Dataset(tmp_path / "data", verify=True)
    counts = [record.carrying for record in data.records]
    assert 0 in counts
    assert sum(filter(None, counts)) == data.carries.sum() > 0
    assert main(["verify", str(tmp_path / "data")]) == 0
    run("none", jacobian_share=0.0001, states=30)
    assert not Dataset(tmp_path / "none", verify=True).has_jacobian
    assert main(["verify", str(tmp_path / "none")]) == 0
    assert "not stored" in capsys.readouterr().out


def test_another_share_is_refused(run: Collect, tmp_path: Path) -> None:
    run("data", jacobian_share=0.25, states=30)
    for share in (0.5, 1.0):
        with pytest.raises(
            UserError, match=rf"differently: jacobian_share is 0\.25, not {share}; choose another --col"
        ):
            run("data", jacobian_share=share, states=60)
    with pytest.raises(UserError, match=r"differently: jacobian_share is 0\.25, not 0\.5"):
        run("data", jacobian_share=0.5, states=60, writer="another")
    assert run("data", jacobian_share=0.25, states=60).added == 30
    with pytest.raises(UserError, match=r"--collect\.jacobian_share must be above 0, and at most 1, got 0"):
        run("other", jacobian_share=0.0)


@pytest.mark.parametrize("given", [{"jacobian_share": 0.25}, {"space": "probs"}, {"codec": "fp16"}])
def test_what_is_of_derivatives_is_refused_without_any(
    given: dict[str, Any], make_config: Callable[..., Config]
) -> None:
    (name,) = given
    with pytest.raises(UserError, match=rf"--collect.{name} is of derivatives, and --collect.jacobian is none; leave"):
        make_config(collect={"jacobian": "none", **given})
    make_config(collect={"jacobian": "full", **given})


@pytest.mark.parametrize("field", ["codes", "v"])
def test_verify_sees_derivatives_that_are_not_the_teachers(
    run: Collect, tmp_path: Path, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("data", jacobian_share=0.25)
    read = Dataset.jacobian

    def shifted(data: Dataset, index: Any) -> Any:
        found = read(data, index)
        found.codes = np.roll(found.codes, 1, 0)
        return found

    if field == "codes":
        monkeypatch.setattr(Dataset, "jacobian", shifted)
    else:
        monkeypatch.setattr(Dataset, "rows_of", lambda data, index: (data._row[index] + 1) % len(data.gain))
    with pytest.raises(UserError, match=r"stored derivatives are .*% off the teacher's, more than int8 explains"):
        verify(tmp_path / "data", load_teacher("pong"), sample=40)
