"""No bit of a checkpoint changes unnoticed, and a damaged one costs no more than the way back to the one before."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.config.config import Config
from distill.config.stages import train
from distill.errors import UserError
from distill.train import checkpoint
from distill.train.checkpoint import MARK, load_checkpoint, newest_checkpoint, save_checkpoint
from distill.train.saver import Saver

CPU = torch.device("cpu")
CONTENT: dict[str, Any] = {
    "model": {"weight": torch.arange(6.0)}, "optimizer": {}, "progress": {"step": 3, "best_step": 0},
    "rng": torch.get_rng_state(), "config": {"seed": 1},
}  # fmt: skip


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, CONTENT)
    content = load_checkpoint(path, CPU)
    assert torch.equal(content["model"]["weight"], CONTENT["model"]["weight"])
    assert content["progress"] == CONTENT["progress"]
    assert torch.load(path, weights_only=True).keys() == content.keys(), "torch reads it as it is"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, CONTENT)
    size, trailer = path.stat().st_size * 8, (len(MARK) + 64) * 8
    some = random.Random(0).sample(range(size - trailer), 300)
    for bit in [*some, *range(size - trailer, size)]:
        flip(path, bit)
        with pytest.raises(UserError, match=r"is not a (readable )?checkpoint"):
            load_checkpoint(path, CPU)
        flip(path, bit)
    load_checkpoint(path, CPU)


@pytest.mark.parametrize("cut", [1, 64, 64 + len(MARK), 200, 1000])
def test_a_truncated_file_is_noticed(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, CONTENT)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match="is not a readable checkpoint"):
        load_checkpoint(path, CPU)


def test_a_checkpoint_of_the_last_version_is_read_and_its_tensors_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({**CONTENT, "model": {"weight": torch.arange(5000.0)}}, path)
    assert load_checkpoint(path, CPU)["progress"]["step"] == 3
    place = path.read_bytes().index(torch.arange(1000.0, 1010.0).numpy().tobytes())
    flip(path, 8 * place + 3)
    with pytest.raises(UserError, match=r"data/\d in it does not match its checksum"):
        load_checkpoint(path, CPU)


def test_a_best_checkpoint_of_the_last_version_is_used(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    content = {**CONTENT, "progress": {"step": 3, "best_step": 2}}
    torch.save({**CONTENT, "model": {"weight": torch.ones(1)}}, tmp_path / "checkpoints" / "best.pt")
    assert checkpoint.best_weights(content, tmp_path, CPU)["weight"].item() == 1
    assert checkpoint.best_weights(CONTENT, tmp_path, CPU) == {}


@pytest.fixture
def stopped(quick: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """``stopped(name)``: a run of 12 steps interrupted at step 10, with checkpoints of steps 8 and 10."""
    check = Saver.check

    def cut(self: Saver) -> None:
        if self.kept.progress.step == 10:
            raise KeyboardInterrupt
        check(self)

    def make(name: str) -> Config:
        with monkeypatch.context() as patch:
            patch.setattr(Saver, "check", cut)
            with pytest.raises(KeyboardInterrupt):
                train(quick(name))
        return quick(name)

    return make


def weights(run: Path) -> bytes:
    return (run / "student" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", ["bit", "half", "nothing", "gone"])
def test_a_damaged_last_checkpoint_costs_the_steps_since_the_one_before(
    quick: Callable[..., Config], stopped: Callable[..., Config], capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    whole, config = train(quick("whole")), stopped("cut")
    folder = Path(config.train.out) / "checkpoints"
    steps = {name: load_checkpoint(folder / f"{name}.pt", CPU)["progress"]["step"] for name in ("last", "previous")}
    assert steps == {"last": 10, "previous": 8}
    last = folder / "last.pt"
    if damage == "bit":
        flip(last, 8 * 5000)
    elif damage == "half":
        last.write_bytes(last.read_bytes()[:4000])
    elif damage == "nothing":
        last.write_bytes(b"")
    else:
        last.unlink()  # as after a crash between the two renames
    cut = train(config)
    said = capsys.readouterr().out
    assert "continuing at step 8" in said
    assert ("going on from previous.pt, the checkpoint before it" in said) is (damage != "gone")
    assert weights(cut) == weights(whole)
    both = [load_checkpoint(run / "checkpoints" / "last.pt", CPU) for run in (whole, cut)]
    assert both[0]["progress"]["best_kl"] == both[1]["progress"]["best_kl"]
    for name, tensor in both[0]["model"].items():
        assert torch.equal(tensor, both[1]["model"][name])


def test_the_good_checkpoint_outlives_the_first_one_after_the_damage(stopped: Callable[..., Config]) -> None:
    """Otherwise the damaged file would take the place of the one that is good."""
    config = stopped("cut")
    folder = Path(config.train.out) / "checkpoints"
    flip(folder / "last.pt", 8 * 5000)
    assert newest_checkpoint(folder.parent, CPU)["progress"]["step"] == 8
    assert {path.name for path in folder.iterdir()} == {"best.pt", "damaged.pt", "previous.pt"}
    save_checkpoint(folder / "last.pt", CONTENT, keep=folder / "previous.pt")
    assert load_checkpoint(folder / "previous.pt", CPU)["progress"]["step"] == 8


def test_when_all_are_damaged_it_is_one_sentence(stopped: Callable[..., Config]) -> None:
    config = stopped("cut")
    for name in ("last", "previous"):
        flip(Path(config.train.out) / "checkpoints" / f"{name}.pt", 8 * 5000)
    with pytest.raises(UserError, match=r"last\.pt is not a readable .*previous\.pt; choose another") as said:
        train(config)
    assert "\n" not in str(said.value)


def test_a_damaged_best_checkpoint_does_not_change_the_student(
    quick: Callable[..., Config], stopped: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(quick("whole"))
    config = stopped("cut")
    best = Path(config.train.out) / "checkpoints" / "best.pt"
    kept = load_checkpoint(best.with_name("last.pt"), CPU)
    assert all(torch.equal(kept["best"][name], tensor) for name, tensor in load_checkpoint(best, CPU)["model"].items())
    flip(best, 8 * 5000)
    cut = train(config)
    assert weights(cut) == weights(whole)
    then = load_checkpoint(cut / "checkpoints" / "last.pt", CPU)["progress"]["best_step"]
    renewed = then > kept["progress"]["best_step"]
    assert ("best.pt is not a readable checkpoint" in capsys.readouterr().out) is not renewed


def test_at_any_moment_there_is_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoints"
    last, previous = folder / "last.pt", folder / "previous.pt"
    save_checkpoint(last, CONTENT, keep=previous)
    replace, renames = os.replace, []

    def watched(source: Path, target: Path) -> None:
        replace(source, target)
        renames.append(Path(target).name)
        assert checkpoint.can_go_on(tmp_path)
        assert newest_checkpoint(tmp_path, CPU)["progress"]["step"] in (3, 4)

    monkeypatch.setattr(os, "replace", watched)
    save_checkpoint(last, {**CONTENT, "progress": {"step": 4}}, keep=previous)
    assert renames == ["previous.pt", "last.pt"]
    assert newest_checkpoint(tmp_path, CPU)["progress"]["step"] == 4
