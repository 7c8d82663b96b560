"""The public Python API: the stages as functions, and the pieces they are made of.

from distill.api import Config, CollectConfig, collect, validated

collect(validated(Config(env="pong", collect=CollectConfig(out="data/pong", states=20_000))))
"""

from distill.collect.pipeline import collect
from distill.config import (
    CollectConfig,
    Config,
    EvaluateConfig,
    ImitateConfig,
    ObjectiveConfig,
    ReportConfig,
    StudentConfig,
    SweepConfig,
    TrainConfig,
)
from distill.dataset.reader import Dataset
from distill.errors import DivergedError, UserError
from distill.evaluate.fidelity import Fidelity, measure
from distill.evaluate.report import report
from distill.evaluate.run import evaluate
from distill.grid import product, run_grid
from distill.imitate.loop import imitate
from distill.losses.engine import Engine
from distill.losses.layers import ReCU
from distill.losses.sobolev import Losses, Objective, Targets, sobolev_loss
from distill.students.folder import Student, load_student
from distill.students.nets import AtariCNN, NetSpec
from distill.sweep import sweep
from distill.train.loop import train
from distill.validate import validated
from teachers.load import load_teacher
from teachers.protocol import Teacher

__all__ = [
    "AtariCNN",
    "CollectConfig",
    "Config",
    "Dataset",
    "DivergedError",
    "Engine",
    "EvaluateConfig",
    "Fidelity",
    "ImitateConfig",
    "Losses",
    "NetSpec",
    "Objective",
    "ObjectiveConfig",
    "ReCU",
    "ReportConfig",
    "Student",
    "StudentConfig",
    "SweepConfig",
    "Targets",
    "Teacher",
    "TrainConfig",
    "UserError",
    "collect",
    "evaluate",
    "imitate",
    "load_student",
    "load_teacher",
    "measure",
    "product",
    "report",
    "run_grid",
    "sobolev_loss",
    "sweep",
    "train",
    "validated",
]
