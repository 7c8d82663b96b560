"""TensorBoard: a run's curves, and its row in the HPARAMS tab: what was set, and how good the student is.

The row's figures are points of ``<run>/best``, a TensorBoard run of its own: the kept checkpoint's, at its step, under
the tags of the learning curves, so that they come to lie on these and make no charts of one point.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch.utils.tensorboard import SummaryWriter

from distill.records.loggers import Picture
from distill.system.progress import console

EVENTS = "events.out.tfevents."
BEST = "best"
"""The folder in the run."""
SCORE = "whole_games/mean_reward"
FIELDS = {api_pb2.DATA_TYPE_BOOL: "bool_value", api_pb2.DATA_TYPE_FLOAT64: "number_value",
          api_pb2.DATA_TYPE_STRING: "string_value"}  # fmt: skip
# TensorBoard shows five columns of settings and five of figures, unless it is asked for more. It puts those
# settings first that are said to differ.
SHOWN = ("jacobian_weight", "jacobian_schedule", "states", "student", "seed")


class TensorBoard:
    """A ``Logger``: events in the run's folder; points after ``step`` of an earlier, killed process are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        _wait_for_the_last_place(folder)
        self._folder, self._writer = folder, SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """See ``Logger``."""
        add_figures(self._writer, step, figures)
        self._writer.flush()  # 0.2 ms, and a process that is killed leaves every point before its checkpoint

    def image(self, step: int, tag: str, pixels: Picture) -> None:
        """See ``Logger``."""
        self._writer.add_image(tag, pixels, step, dataformats="HW")

    def hparams(self, settings: Mapping[str, Any], step: int, figures: Mapping[str, float | None]) -> None:
        """See ``Logger``; the run's row in the HPARAMS tab."""
        write_figures(self._folder, step, figures)
        tags = list(figures)
        write_hparams(self._writer, settings, [*tags[:3], SCORE, *tags[3:]])

    def close(self) -> None:
        """See ``Logger``."""
        self._writer.close()


def write_hparams(writer: SummaryWriter, settings: Mapping[str, Any], tags: Sequence[str]) -> None:
    """The row: settings by name, of a run that has ended, where None is left out; and tags of its figures."""
    known = {name: value for name, value in settings.items() if value is not None}
    infos = [api_pb2.HParamInfo(name=name, type=_type(value), differs=name in SHOWN) for name, value in known.items()]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(group=BEST, tag=tag), display_name=tag) for tag in tags]
    start = SessionStartInfo()
    for name, value in known.items():
        setattr(start.hparams[name], FIELDS[_type(value)], value)
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    end = SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    parts = {
        metadata.EXPERIMENT_TAG: HParamsPluginData(experiment=experiment),
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=end),
    }
    events: Any = writer.file_writer
    for tag, part in parts.items():
        value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(part), tensor=metadata.NULL_TENSOR)
        events.add_summary(Summary(value=[value]))


def write_figures(run: Path, step: int, figures: Mapping[str, float | None]) -> None:
    """Figures of the student by tag, in ``<run>/best``.

    Args:
        run: the run folder.
        step: of the weights that became the student.
        figures: by tag; None is left out.
    """
    with SummaryWriter(str(run / BEST)) as writer:
        add_figures(writer, step, figures)


def add_figures(writer: SummaryWriter, step: int, figures: Mapping[str, float | None]) -> None:
    """One point of each figure that there is."""
    for tag, value in figures.items():
        if value is not None:
            writer.add_scalar(tag, value, step)


def _wait_for_the_last_place(folder: Path) -> None:
    """Wait, for a second at most, until a new file comes after those that are there.

    TensorBoard reads the files of a run in the order of their names, which begin with the second, and a file drops the
    later steps of those before it. Of two files of one second the older one may be read last, and drop the newer's.
    """
    seconds = [_second(file.name) for file in folder.glob(f"{EVENTS}*")]
    behind = max(seconds, default=0) + 1 - time.time()
    if behind > 1:
        console.print(
            f"{folder}: the clock is {behind:.0f} s behind this run's last TensorBoard file, so its curves may miss "
            "the points to come; set the clock and continue again"
        )
    elif behind > 0:
        time.sleep(behind)


def _second(name: str) -> int:
    second = name.removeprefix(EVENTS).partition(".")[0]
    return int(second) if second.isdecimal() else 0


def _type(value: object) -> int:
    if isinstance(value, bool):
        return int(api_pb2.DATA_TYPE_BOOL)
    return int(api_pb2.DATA_TYPE_FLOAT64 if isinstance(value, int | float) else api_pb2.DATA_TYPE_STRING)
