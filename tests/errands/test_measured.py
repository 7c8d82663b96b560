"""A user's loss term, figure and logger, without a line changed in the toolkit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.errands import PLAY, TINY, Distill, papers

TRAIN = (
    "--train.data=pong", *TINY, "--train.log_every=2", "--seed=3", "--student.convs=[[4,8,4]]", "--student.hidden=[8]",
    "--objective.terms={my_package.losses:Peak: 0.5}", "--train.loggers=[my_package.loggers:Lines]",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(distill: Distill, pong: str, home: Path) -> Path:
    distill("train", *TRAIN, "--train.out=with-term", plugins=False)
    return home / "with-term"


def lines(run: Path) -> list[Any]:
    return [json.loads(line) for line in (run / "lines.txt").read_text().splitlines()]


def test_a_term_and_a_logger_of_ones_own(run: Path) -> None:
    told = lines(run)
    assert (told[0], told[-1]) == (["begin", 0], ["end"])
    peaks = {step: value for step, tag, value in (line for line in told if len(line) == 3) if tag == "train/peak_loss"}
    assert sorted(peaks) == [2, 4, 6]
    assert all(value > 0 for value in peaks.values())
    assert [2, "train/peak_weight", 0.5] in told
    assert {line[1] for line in told if len(line) == 3} >= {"train/loss", "train/kl_loss", "val/kl", "val/saliency"}
    (row,) = [line for line in told if "row" in line]
    assert row[2] == 3
    assert "val/kl" in row[3]
    assert not list(run.glob("events.out.*")), "TensorBoard was not asked for"
    assert papers(run)["objective"]["terms"] == {"my_package.losses:Peak": 0.5}


def test_the_same_command_says_that_all_is_done(distill: Distill, run: Path) -> None:
    assert "already trained; nothing to do" in distill("train", *TRAIN, "--train.out=with-term", plugins=False)


def test_a_figure_of_ones_own(distill: Distill, run: Path, home: Path) -> None:
    said = distill(
        "evaluate", "--env=pong", f"--evaluate.agents=[student={run.name}]", *PLAY, "--evaluate.data=pong",
        "--evaluate.figures=[my_package.figures:flips]", "--evaluate.out=flipped", plugins=False,
    )  # fmt: skip
    record = json.loads((home / "flipped" / "scores.json").read_text())
    assert 0 <= record["agents"]["student"]["val_flips"] <= 1
    assert record["figures"]["flips"]["form"] == ".1%"
    assert "flips" in said
    assert "figure 'my_package.figures:flip'" in distill(
        "evaluate", "--env=pong", "--evaluate.figures=[my_package.figures:flip]", fails=True, plugins=False
    )
