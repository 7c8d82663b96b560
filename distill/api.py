"""The public Python API: the stages as functions, and the pieces they are made of.

from distill.api import Config, CollectConfig, collect, validated

collect(validated(Config(env="pong", collect=CollectConfig(out="data/pong", states=20_000))))
"""

from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.config.stages import collect, evaluate, imitate, report, sweep, train
from distill.config.validate import validated
from distill.dataset.reader import Dataset
from distill.engine.engine import Engine
from distill.envs.presets import Preset, register_preset
from distill.errors import DivergedError, UserError
from distill.evaluate.settings import EvaluateConfig
from distill.figures.fidelity import Fidelity, measure
from distill.figures.figure import Derivatives, Figure, Outputs, register_figure
from distill.imitate.settings import ImitateConfig
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Losses, Objective, sobolev_loss
from distill.losses.targets import Targets
from distill.losses.term import Seen, Term
from distill.losses.terms import register_term
from distill.networks.layers import ReCU
from distill.networks.nets import AtariCNN, NetSpec
from distill.networks.registry import register_network
from distill.networks.settings import StudentConfig
from distill.records.loggers import Logger, register_logger
from distill.report.settings import ReportConfig
from distill.students.folder import Student, load_student
from distill.sweep.grid import product, run_grid
from distill.sweep.settings import SweepConfig
from distill.train.hooks import Hook, Status
from distill.train.settings import TrainConfig
from teachers.formats.format import LoadedPolicy, TeacherFormat, register_teacher_format
from teachers.load import load_teacher
from teachers.protocol import Teacher

__all__ = [
    "AtariCNN",
    "CollectConfig",
    "Config",
    "Dataset",
    "Derivatives",
    "DivergedError",
    "Engine",
    "EvaluateConfig",
    "Fidelity",
    "Figure",
    "Hook",
    "ImitateConfig",
    "LoadedPolicy",
    "Logger",
    "Losses",
    "NetSpec",
    "Objective",
    "ObjectiveConfig",
    "Outputs",
    "Preset",
    "ReCU",
    "ReportConfig",
    "Seen",
    "Status",
    "Student",
    "StudentConfig",
    "SweepConfig",
    "Targets",
    "Teacher",
    "TeacherFormat",
    "Term",
    "TrainConfig",
    "UserError",
    "collect",
    "evaluate",
    "imitate",
    "load_student",
    "load_teacher",
    "measure",
    "product",
    "register_figure",
    "register_logger",
    "register_network",
    "register_preset",
    "register_teacher_format",
    "register_term",
    "report",
    "run_grid",
    "sobolev_loss",
    "sweep",
    "train",
    "validated",
]
