"""Settings of ``distill report``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from distill.envs.ale_vec import MAX_LANES
from distill.envs.settings import CommonConfig
from distill.system.ranges import Range
from distill.system.settings import Section

LANES = Range(f"between 1 and {MAX_LANES}", 1, MAX_LANES)


@dataclass(frozen=True)
class ReportConfig(Section):
    """One self-contained HTML page about one evaluation."""

    scores: str = "runs/{env}__scores/scores.json"
    """scores.json to report on."""
    data: str | None = None
    """Dataset whose held-out states the saliency pictures show; by default the one the students learned from."""
    out: str = "report/{env}"
    """Folder for index.html and the pictures."""

    PLACES: ClassVar[tuple[str, ...]] = (
        "scores",
        "data",
        "out",
    )


@dataclass(frozen=True)
class ReportRun(CommonConfig):
    """What ``distill report`` reads."""

    report: ReportConfig = field(default_factory=ReportConfig)
    """Settings of `distill report`."""

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "report.scores",
        "report.out",
        "report.data",
        "device",
    )
