"""Which projections a step compares: all that is stored, some of it, or fresh ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.batches.loader import Batch, Loader, batches
from distill.batches.sampler import Sampler
from distill.batches.source import Index
from distill.config.config import Config
from distill.config.stages import collect, train
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Objective
from distill.losses.targets import Targets
from distill.train.auto import make_plan
from distill.train.setup import check_dataset, make_objective
from teachers.load import load_teacher

INDEX = np.array([5, 60, 17, 17, 42])
STATES = {"states": 64, "num_envs": 2, "shard_states": 64}


@pytest.fixture(scope="module")
def stored(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Dataset]:
    """``stored("projected")`` has three projections a state, ``stored("full")`` all six rows; the same states.

    ``stored("full", 0.5)``: half of them carry these.
    """
    root = tmp_path_factory.mktemp("jacobians")

    def make(jacobian: str, share: float = 1.0) -> Dataset:
        out = root / f"{jacobian}-{share}"
        if not out.exists():
            kind = {"jacobian": jacobian, "jacobian_share": share, "codec": "fp16"}
            kind |= {"k": 3} if jacobian == "projected" else {}
            collect(make_config(collect={"out": str(out), **kind, **STATES}))
        return Dataset(out)

    return make


def targets(dataset: Dataset, k: int | None, step: int = 0, share: slice = slice(None)) -> Targets:
    """What a step of these states is given."""
    loader = Loader(dataset, ObjectiveConfig(jacobian_weight=1.0, k=k), torch.device("cpu"), 3, None)
    found = loader.load(INDEX, step, share=share).targets
    assert found is not None
    return found


@pytest.mark.parametrize("share", [slice(None), slice(0, None, 2), slice(1, None, 2)])
@pytest.mark.parametrize("carrying", [0, 2, 4])
@pytest.mark.parametrize(("kind", "k", "noise"), [
    ("projected", None, 0.0), ("projected", 2, 0.0), ("full", None, 0.0), ("full", 2, 0.0), ("online", 2, 0.0),
    ("online", 1, 8.0),
])  # fmt: skip
def test_only_the_first_states_carry_derivatives(
    stored: Callable[..., Dataset], kind: str, k: int | None, noise: float, carrying: int, share: slice
) -> None:
    teacher = load_teacher("pong") if kind == "online" else None
    dataset = stored("projected" if kind == "online" else kind)
    loader = Loader(dataset, ObjectiveConfig(k=k, input_noise=noise), torch.device("cpu"), 3, teacher)
    whole = loader.load(INDEX, 4, noisy=True, share=share)
    part = loader.load(INDEX, 4, noisy=True, share=share, carrying=carrying)
    torch.testing.assert_close(part.obs, whole.obs, rtol=0, atol=0)
    torch.testing.assert_close(part.logits, whole.logits)
    count = len(range(carrying)[share])
    assert (part.targets is None) == (count == 0)
    if part.targets is not None:
        assert whole.targets is not None
        assert len(part.targets.v) == len(part.targets.vjp) == count
        torch.testing.assert_close(part.targets.v, whole.targets.v[:count])
        for row in range(part.targets.v.shape[1]):
            torch.testing.assert_close(part.targets.row(row), whole.targets.row(row)[:count], rtol=1e-4, atol=1e-6)


def test_nothing_of_derivatives_is_read_where_nobody_needs_them(
    stored: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, asked = stored("projected"), list[int]()
    read = Dataset.jacobian

    def noted(self: Dataset, index: Any) -> Any:
        asked.append(len(index))
        return read(self, index)

    monkeypatch.setattr(Dataset, "jacobian", noted)
    loader = Loader(dataset, ObjectiveConfig(), torch.device("cpu"), 3, None)
    objective = Objective(jacobian_schedule="linear", jacobian_until=0.5, jacobian_share=0.25)
    stream = batches(loader, Sampler(np.arange(64), 16, 1), 0, 8, carrying=lambda step: objective.carrying(step, 8, 16))
    carried = [0 if batch.targets is None else len(batch.targets.v) for batch in stream]
    assert carried == [4, 4, 4, 4, 0, 0, 0, 0]
    assert asked == [4, 4, 4, 4]


def test_all_that_is_stored_by_default(stored: Callable[..., Dataset]) -> None:
    assert targets(stored("projected"), None).v.shape == (5, 3, 6)
    assert targets(stored("full"), None).v.shape == (5, 5, 6)  # as many as there are zero-sum directions


def test_some_of_the_stored_projections(stored: Callable[..., Dataset]) -> None:
    every, drawn = targets(stored("projected"), None), targets(stored("projected"), 2)
    assert drawn.v.shape == (5, 2, 6)
    for state in range(len(INDEX)):
        places = [int((every.v[state] == v).all(-1).nonzero()) for v in drawn.v[state]]
        assert len(set(places)) == 2
        for row, place in enumerate(places):
            torch.testing.assert_close(drawn.row(row)[state], every.row(place)[state], rtol=0, atol=0)
    again, later = targets(stored("projected"), 2), targets(stored("projected"), 2, step=1)
    torch.testing.assert_close(again.v, drawn.v, rtol=0, atol=0)
    assert not torch.equal(later.v, drawn.v)


def test_fresh_directions_of_a_full_jacobian(stored: Callable[..., Dataset]) -> None:
    full, drawn = targets(stored("full"), None), targets(stored("full"), 2)
    assert drawn.v.shape == (5, 2, 6)
    torch.testing.assert_close(drawn.v.norm(dim=-1), torch.ones(5, 2))
    torch.testing.assert_close(drawn.v.sum(-1), torch.zeros(5, 2), atol=1e-6, rtol=0)
    # Zero-sum directions are combinations of the quadrature's, which are orthonormal.
    parts = torch.einsum("bka,bra->bkr", drawn.v, full.v)
    rows = torch.stack([full.row(r) for r in range(5)], 1)
    want = torch.einsum("bkr,brchw->bkchw", parts, rows)
    got = torch.stack([drawn.row(k) for k in range(2)], 1)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * float(want.abs().max()))


@pytest.mark.parametrize("jacobian", ["projected", "full"])
def test_processes_share_one_draw(stored: Callable[..., Dataset], jacobian: str) -> None:
    joint = targets(stored(jacobian), 1)
    parts = [targets(stored(jacobian), 1, share=share) for share in (slice(0, 3), slice(3, 5))]
    torch.testing.assert_close(torch.cat([part.v for part in parts]), joint.v, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([part.row(0) for part in parts]), joint.row(0))


def test_more_than_is_stored_is_refused(quick: Callable[..., Config], pong_data: Path) -> None:
    config = quick(objective={"jacobian_weight": 0.1, "k": 2})
    with pytest.raises(UserError, match=r"--objective\.k=2 but .* stores 1 projections"):
        train(config)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_not_finite_are_refused_by_name(
    stored: Callable[..., Dataset], make_config: Callable[..., Config], value: float
) -> None:
    dataset = stored("projected")
    config = make_config(objective={"jacobian_weight": 1.0})
    check_dataset(config, dataset)
    dataset.logits[17, 2] = value
    with pytest.raises(UserError, match=r"NaN or infinite logits in 1 of 64 states, the first of them state 17; run"):
        check_dataset(config, dataset)


@pytest.mark.parametrize("name", ["gain", "row_scale", "v"])
def test_derivatives_that_are_not_finite_are_refused_by_name(
    stored: Callable[..., Dataset], make_config: Callable[..., Config], name: str
) -> None:
    dataset = stored("projected")
    config = make_config(objective={"jacobian_weight": 1.0})
    loader = Loader(dataset, config.objective, torch.device("cpu"), 3, None)
    loader.load(INDEX, 0).check(7)
    getattr(dataset, name)[42] = np.nan
    with pytest.raises(UserError, match=r"the teacher's derivatives of state 42 are NaN or infinite"):
        loader.load(INDEX, 0).check(7)
    if name != "v":
        scale = loader.mean_square(INDEX, 1.0, 0.0)
        with pytest.raises(UserError, match="has NaN or infinite derivatives"):
            make_objective(config, make_plan(config, len(INDEX)), dataset, scale)


def test_a_loss_that_is_no_number_for_the_data_s_sake_blames_the_data(
    make_config: Callable[..., Config], pong_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Loader.load

    def damaged(self: Loader, index: Any, step: int, **options: Any) -> Batch:
        batch = load(self, index, step, **options)
        if batch.targets is not None and step == 2:
            batch.targets.v[0] = np.nan
        return batch

    monkeypatch.setattr(Loader, "load", damaged)
    fit = {"data": str(pong_data), "out": str(tmp_path / "run"), "steps": 3, "batch_size": 4}
    objective = {"jacobian_weight": 0.1, "jacobian_until": 1.0}
    config = make_config(student={"convs": [(4, 8, 4)], "hidden": [8]}, objective=objective, train=fit)
    with pytest.raises(UserError, match="stopped at step 3: the teacher's derivatives of state"):
        train(config)


# -- data that carry derivatives of a share of their states ---------------------------------------------


def mixed(data: Dataset) -> tuple[Index, int]:
    """States that carry derivatives, not in order, and then others."""
    carry, others = np.flatnonzero(data.carries), np.flatnonzero(~data.carries)
    index = np.concatenate([carry[[5, 0, 3, 7]], others[[2, 9, 4]]])
    return index, 4


@pytest.mark.parametrize("share", [slice(None), slice(1, None, 2)])
@pytest.mark.parametrize(("kind", "k"), [("projected", None), ("projected", 2), ("full", None), ("full", 2)])
def test_what_is_stored_of_some_states_is_what_was_stored_of_all(
    stored: Callable[..., Dataset], kind: str, k: int | None, share: slice
) -> None:
    every, some = stored(kind), stored(kind, 0.5)
    index, carrying = mixed(some)
    whole, part = (
        Loader(data, ObjectiveConfig(k=k), torch.device("cpu"), 3, None).load(index, 4, carrying=carrying, share=share)
        for data in (every, some)
    )
    torch.testing.assert_close(part.obs, whole.obs, rtol=0, atol=0)
    torch.testing.assert_close(part.logits, whole.logits, rtol=0, atol=0)
    assert whole.targets is not None
    assert part.targets is not None
    torch.testing.assert_close(part.targets.v, whole.targets.v, rtol=0, atol=0)
    for row in range(part.targets.v.shape[1]):
        torch.testing.assert_close(part.targets.row(row), whole.targets.row(row), rtol=0, atol=0)


def test_a_batch_that_begins_with_others_is_refused(stored: Callable[..., Dataset]) -> None:
    index, carrying = mixed(stored("full", 0.5))
    loader = Loader(stored("full", 0.5), ObjectiveConfig(), torch.device("cpu"), 3, None)
    loader.load(index, 0, carrying=carrying)
    with pytest.raises(UserError, match=rf"derivatives of a share of its states, 0\.5, and state {index[4]} is none"):
        loader.load(index, 0, carrying=5)


def test_those_that_carry_come_first(stored: Callable[..., Dataset]) -> None:
    some, index = stored("full", 0.5), np.arange(10, 30)
    order, carrying = Loader(some, ObjectiveConfig(), torch.device("cpu"), 3, None).carriers_first(index)
    assert sorted(order) == list(range(20))
    assert some.carries[index[order]].tolist() == [True] * carrying + [False] * (20 - carrying)
    for loader in (
        Loader(some, ObjectiveConfig(), torch.device("cpu"), 3, load_teacher("pong")),  # asks for all
        Loader(stored("full"), ObjectiveConfig(), torch.device("cpu"), 3, None),
    ):
        order, carrying = loader.carriers_first(index)
        assert (order.tolist(), carrying) == (list(range(20)), 20)


@pytest.mark.parametrize("kind", ["projected", "full"])
def test_s_is_of_those_that_carry(stored: Callable[..., Dataset], kind: str) -> None:
    every, some = stored(kind), stored(kind, 0.5)
    index = np.arange(8, 64)
    scales = [
        Loader(data, ObjectiveConfig(), torch.device("cpu"), 3, None).mean_square(states, 0.5, 1.0)
        for data, states in ((some, index), (every, index[some.carries[index]]), (every, index))
    ]
    assert scales[0] == scales[1] != scales[2]


def test_fresh_derivatives_need_none_that_are_stored(
    stored: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anything of them asked from the disk."""
    every, some = stored("projected"), stored("projected", 0.5)
    some._outgrows_memory = True
    seen = []
    for data in (every, some):
        loader = Loader(data, ObjectiveConfig(), torch.device("cpu"), 3, load_teacher("pong"))
        seen.append(list(batches(loader, Sampler(np.arange(64), 16, 1), 0, 4)))
    for whole, part in zip(*seen, strict=True):
        assert whole.targets is not None
        assert part.targets is not None
        torch.testing.assert_close(part.targets.vjp, whole.targets.vjp, rtol=0, atol=0)
