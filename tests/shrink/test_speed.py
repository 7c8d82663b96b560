"""A larger network takes longer; what has been timed is not timed again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from distill.networks.nets import NETS, AtariCNN
from distill.shrink import speed
from distill.shrink.speed import ONNXRUNTIME, PYTORCH, microseconds, speeds
from distill.sweep.grid import read_rows
from teachers.load import load_teacher


def test_a_larger_network_takes_longer() -> None:
    nets = {(name, "float32", PYTORCH): AtariCNN(NETS[name], 6) for name in ("nature", "rusu-1")}
    found = microseconds(nets)
    assert list(found) == list(nets)
    for median, low, high in found.values():
        assert 10 < low <= median <= high
    large, small = found.values()
    assert small[0] < large[0]


def test_what_cannot_be_timed_is_known_too(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student's ONNX file as teacher, which PyTorch does not run."""
    folder = Path(shutil.copytree(finished, tmp_path / "ladder"))
    rows = read_rows(folder / "rows.csv")
    (folder / "speed.csv").unlink()
    teacher = load_teacher(str(folder / rows[0]["run"] / "int8" / "student.onnx"))
    found = speeds(folder, teacher, rows, onnx=True)
    assert found["teacher", "float32", PYTORCH]["microseconds"] == ""
    assert float(found["teacher", "float32", ONNXRUNTIME]["microseconds"]) > 0
    monkeypatch.setattr(speed, "microseconds", None)
    assert speeds(folder, teacher, rows, onnx=True) == found


def test_agents_that_are_known_are_not_timed_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "ladder"))
    rows, before, threads = read_rows(folder / "rows.csv"), (folder / "speed.csv").read_text(), torch.get_num_threads()
    times: list[int] = []

    def noted(agents: dict[speed.Key, torch.nn.Module]) -> dict[speed.Key, tuple[float, float, float]]:
        times.append(torch.get_num_threads())
        return dict.fromkeys(agents, (2.0, 1.0, 3.0))

    monkeypatch.setattr(speed, "microseconds", noted)
    teacher = load_teacher("pong")
    kept = speeds(folder, teacher, rows, onnx=True)
    assert (times, (folder / "speed.csv").read_text()) == ([], before)
    assert kept.keys() == {
        ("teacher", "float32", "pytorch"), ("teacher", "float32", "onnxruntime"), ("rusu-1", "float32", "pytorch"),
        ("rusu-1", "float32", "onnxruntime"), ("rusu-1", "int8", "onnxruntime"),
    }  # fmt: skip
    more = [{**rows[0], "network": "other"}]
    torch.set_num_threads(2)
    try:
        found = speeds(folder, teacher, [*rows, *more], onnx=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert times == [1], "all together, so that they can be compared"
    assert {row["microseconds"] for row in found.values()} == {"2.00"}
    assert found.keys() - kept.keys() == {("other", "float32", "pytorch"), ("other", "float32", "onnxruntime")}
