"""What people read below the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.config.config import Config
from distill.shrink.ladder import Rung
from distill.shrink.settings import ShrinkRun
from distill.shrink.show import HEADER, markdown, notes, show, table
from distill.system.settings import part

Make = Callable[..., Rung]


@pytest.fixture
def config(make_config: Callable[..., Config]) -> ShrinkRun:
    return part(make_config(env="pong"), ShrinkRun)


def test_a_rung_is_a_row(rung: Make) -> None:
    (row,) = table([rung("rusu-4", pytorch_us=(166.4, 160.0, 170.0))])
    assert dict(zip(HEADER, row, strict=True)) == {
        "network": "rusu-4", "weights": "61,174", "KiB": "239", "µs torch": "166", "µs ort": "50", "score": "18.0",
        "95 % interval": "17.0 .. 19.0", "of teacher": "95%",
    }  # fmt: skip
    (row,) = table([rung("x", share=(None, None, None), onnxruntime_us=(None, None, None))])
    assert (row[3], row[4], row[-1]) == ("-", "-", "-")


def test_notes_say_what_int8_costs(rung: Make, config: ShrinkRun) -> None:
    small = rung("rusu-4", "int8", int8_cost=(0.5, -0.25, 1.25), int8_kl=0.00027, int8_action_error=0.031)
    found = notes(config, [rung("teacher"), rung("rusu-4"), small], random=-20.25)
    assert "3 seeds a network; intervals over seeds, Student's t (the teacher's over games)" in found[0]
    assert "random play scored -20.2 in the same games" in found[1]
    cost, policy = found[2].split("; ")
    assert cost == "rusu-4 int8: costs 0.50 points (-0.25 .. 1.25)"
    assert policy == "KL(float32 ‖ int8) 0.00027 nats, 3.1% of the best actions differ."
    once = [dataclasses.replace(one, seeds=1, int8_cost_low=None) for one in (rung("teacher"), small)]
    found = notes(config, once, random=-20.25)
    assert "1 seed a network; intervals over games, bootstrap" in found[0]
    assert found[2].startswith("rusu-4 int8: costs 0.50 points; KL")


def test_markdown_is_the_table(rung: Make, config: ShrinkRun) -> None:
    lines = markdown(config, [rung("teacher"), rung("rusu-4")], -20.0).splitlines()
    assert lines[0] == "# pong: how small? 64 whole games each, protocol zoo"
    assert lines[-1] == "| rusu-4 | 61,174 | 239 | - | 50 | 18.0 | 17.0 .. 19.0 | 95% |"


def test_it_fits_80_columns(rung: Make, config: ShrinkRun, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    teacher = rung("teacher", weights=1_687_206, score=(20_012.3, 19_876.5, 20_123.4), pytorch_us=(1_356.0, 1.0, 2.0))
    show(config, [teacher, rung("rusu-25"), dataclasses.replace(teacher, network="rusu-25", seeds=3)], -20.0)
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith((" teacher", " rusu-25"))]
    assert len(rows) == 3
    assert max(map(len, rows)) <= 80
