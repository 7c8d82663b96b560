"""The public Python API: the stages as functions, and the pieces they are made of.

from distill.api import Config, CollectConfig, collect, validated

collect(validated(Config(env="pong", collect=CollectConfig(out="data/pong", states=20_000))))
"""

from distill.collect.pipeline import collect
from distill.config.config import (
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
from distill.config.validate import validated
from distill.dataset.reader import Dataset
from distill.engine.engine import Engine
from distill.errors import DivergedError, UserError
from distill.evaluate.run import evaluate
from distill.figures.fidelity import Fidelity, measure
from distill.imitate.loop import imitate
from distill.losses.sobolev import Losses, Objective, Targets, sobolev_loss
from distill.networks.layers import ReCU
from distill.networks.nets import AtariCNN, NetSpec
from distill.report.run import report
from distill.students.folder import Student, load_student
from distill.sweep.grid import product, run_grid
from distill.sweep.run import sweep
from distill.train.loop import train
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
