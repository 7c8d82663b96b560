"""All settings of the toolkit together.

The command line (``distill --help``), the YAML files in ``configs/`` and the Python API read the same classes, so a
setting has one name, one type and one default. Each group of settings lies in the room that it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

from distill.attack.settings import AttackRun
from distill.collect.settings import CollectRun
from distill.evaluate.settings import EvaluateRun
from distill.finetune.settings import FinetuneRun
from distill.imitate.settings import ImitateRun
from distill.multitask.settings import MultitaskRun
from distill.pbt.settings import PbtRun
from distill.report.settings import ReportRun
from distill.rounds.settings import RoundsRun
from distill.shrink.settings import ShrinkRun
from distill.sweep.settings import SweepRun
from distill.train.settings import TrainRun


@dataclass(frozen=True)
class Config(
    ReportRun,
    ShrinkRun,
    PbtRun,
    SweepRun,
    MultitaskRun,
    EvaluateRun,
    AttackRun,
    FinetuneRun,
    RoundsRun,
    ImitateRun,
    TrainRun,
    CollectRun,
):
    """Everything. A stage takes only its part: ``Config`` is a ``TrainRun``, a ``CollectRun``, ..."""
