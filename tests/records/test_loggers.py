"""Loggers by name and by path, and that a training tells each of them everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from distill.config.config import Config
from distill.config.stages import train
from distill.errors import UserError
from distill.records.loggers import LOGGERS, Loggers, Picture, register_logger
from distill.records.tensorboard import EVENTS, TensorBoard


class Kept:
    """Keeps what it is told."""

    last: Kept

    def __init__(self, folder: Path, step: int) -> None:
        Kept.last = self
        self.folder, self.first, self.open = folder, step, True
        self.points: list[tuple[int, str, float]] = []
        self.pictures: dict[str, Picture] = {}
        self.row: tuple[dict[str, Any], int, dict[str, float | None]] | None = None

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        self.points += [(step, tag, value) for tag, value in figures.items()]

    def image(self, step: int, tag: str, pixels: Picture) -> None:
        self.pictures[tag] = pixels

    def hparams(self, settings: Mapping[str, Any], step: int, figures: Mapping[str, float | None]) -> None:
        self.row = dict(settings), step, dict(figures)

    def close(self) -> None:
        self.open = False


def test_a_logger_by_path_is_told_what_tensorboard_shows(quick: Callable[..., Config]) -> None:
    names = ["tensorboard", f"{__name__}:Kept"]
    run = train(quick(objective={"jacobian_weight": 0.1}, train={"loggers": names}))
    seen, kept = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload(), Kept.last
    shown = [
        (point.step, tag, np.float32(point.value)) for tag in seen.Tags()["scalars"] for point in seen.Scalars(tag)
    ]
    assert sorted(shown) == sorted((step, tag, np.float32(value)) for step, tag, value in kept.points)
    assert (kept.folder, kept.first, kept.open) == (run, 0, False)
    picture = kept.pictures["val/saliency"]
    assert (picture.shape, picture.dtype) == ((4 * 84, 3 * 84), np.float32)
    assert 0 <= picture.min() < picture.max() <= 1
    assert kept.row is not None
    assert kept.row[0]["seed"] == 1
    assert kept.row[2].keys() >= {"val/kl", "val/jacobian_cosine"}


def test_a_logger_is_closed_after_an_error_too(quick: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match="training stopped"):
        train(quick(train={"loggers": [f"{__name__}:Kept"], "learning_rate": 1e30, "warmup": 0}))
    assert not Kept.last.open
    assert not list(Kept.last.folder.glob("events.out.*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", r"unknown logger 'tensorbord' \(did you mean 'tensorboard'\?\)"),
        ("no_such_package:Logger", "there is no module no_such_package"),
        (f"{__name__}:__doc__", "must be a callable that makes a Logger of a folder and a step, but is a str"),
    ],
)
@pytest.mark.parametrize("section", ["train", "imitate", "finetune"])
def test_what_is_no_logger_is_refused(
    make_config: Callable[..., Config], section: str, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_config(**{section: {"loggers": [name]}})


class Half:
    """Knows nothing of pictures and of the end."""

    scalars = close = Kept.close


def half(folder: Path, step: int) -> Half:
    return Half()


def failing(folder: Path, step: int) -> Kept:
    raise KeyError("API key")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half", r"test_loggers:half' gives a Half without image, hparams; give it all methods of distill.api.Logger"),
        ("failing", r"logger '\S+:failing' cannot be made \(KeyError: 'API key'\); mend it, or leave it out"),
    ],
)
def test_a_logger_that_cannot_work_ends_a_run_before_its_first_step(
    quick: Callable[..., Config], name: str, message: str
) -> None:
    run = quick(train={"loggers": [f"{__name__}:Kept", f"{__name__}:{name}"]})
    with pytest.raises(UserError, match=message):
        train(run)
    assert Kept.last.points == []
    assert not Kept.last.open


def test_a_registered_logger_has_a_name(tmp_path: Path) -> None:
    register_logger("kept in a test", Kept)
    try:
        with Loggers(["kept in a test"], tmp_path, 7) as loggers:
            loggers.scalars(8, {"a": 1.0})
        assert (Kept.last.first, Kept.last.points, Kept.last.open) == (7, [(8, "a", 1.0)], False)
        with Loggers(["kept in a test"], None, 7) as nothing:
            nothing.scalars(9, {"a": 1.0})
        assert len(Kept.last.points) == 1
        with pytest.raises(UserError, match="there is a logger 'kept in a test' already"):
            register_logger("kept in a test", Kept)
    finally:
        LOGGERS._things.pop("kept in a test")


def steps(run: Path) -> list[int]:
    return [point.step for point in EventAccumulator(str(run)).Reload().Scalars("train/loss")]


def test_a_run_that_goes_on_within_the_second_keeps_its_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second file's name ends in 10, the first one's in 9: the same second would put it first."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    time.sleep(1.02 - time.time() % 1)  # a second's beginning
    for first, told in ((0, (2, 4, 6)), (4, (6, 8))):
        logger = TensorBoard(tmp_path, first)
        for step in told:
            logger.scalars(step, {"train/loss": 0.5})
        logger.close()
    assert steps(tmp_path) == [2, 4, 6, 8]


def test_every_point_is_there_while_the_run_goes_on(tmp_path: Path) -> None:
    logger = TensorBoard(tmp_path, 0)
    logger.scalars(2, {"train/loss": 0.5})
    assert steps(tmp_path) == [2]
    logger.close()


def test_a_clock_that_was_set_back_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{EVENTS}{int(time.time()) + 600}.host.1.0").touch()
    (tmp_path / f"{EVENTS}of-another-program").touch()
    TensorBoard(tmp_path, 0).close()
    assert "s behind this run's last TensorBoard file" in " ".join(capsys.readouterr().out.split())
