"""The public Python API: the stages as functions, and the pieces they are made of.

from distill.api import Config, CollectConfig, collect, validated

collect(validated(Config(env="pong", collect=CollectConfig(out="data/pong", states=20_000))))
"""

from distill.attack.method import Attack, Scene, register_attack
from distill.attack.settings import AttackConfig, ThreatConfig
from distill.batches.loader import Batch
from distill.collect.settings import CollectConfig
from distill.config.config import Config
from distill.config.stages import (
    attack,
    collect,
    evaluate,
    finetune,
    imitate,
    lesson,
    multitask,
    pbt,
    report,
    rounds,
    shrink,
    sweep,
    train,
)
from distill.config.validate import validated
from distill.dataset.reader import Dataset
from distill.engine.engine import Engine
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import Preset, get_preset, register_preset
from distill.errors import DivergedError, UserError
from distill.evaluate.settings import EvaluateConfig
from distill.figures.fidelity import Fidelity, fidelity_of_outputs, measure
from distill.figures.figure import Derivatives, Figure, Outputs, register_figure
from distill.finetune.settings import FinetuneConfig
from distill.imitate.settings import ImitateConfig
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Losses, Objective, sobolev_loss
from distill.losses.targets import Targets
from distill.losses.term import Seen, Term
from distill.losses.terms import register_term
from distill.multitask.settings import MultitaskConfig
from distill.networks.layers.layer import Activation, Affine, Made, register_layer
from distill.networks.layers.recu import ReCU
from distill.networks.nets import AtariCNN, NetSpec, to_unit
from distill.networks.parts import draws_from
from distill.networks.registry import register_network
from distill.networks.settings import StudentConfig
from distill.pbt.settings import PbtConfig
from distill.records.data import OwnGames
from distill.records.loggers import Logger, register_logger
from distill.records.student import Training
from distill.report.settings import ReportConfig
from distill.rounds.settings import RoundsConfig
from distill.shrink.settings import ShrinkConfig
from distill.students.folder import Student, load_student, save_student
from distill.sweep.grid import product, run_grid
from distill.sweep.settings import SweepConfig
from distill.task import Task
from distill.train.fit import Minimised, Model, Place, fit
from distill.train.hooks import Hook, Hooks, Status
from distill.train.lesson import Lesson
from distill.train.saver import Kept, Saver
from distill.train.settings import TrainConfig
from teachers.formats.format import LoadedPolicy, TeacherFormat, register_teacher_format
from teachers.load import load_teacher
from teachers.protocol import Teacher

__all__ = [
    "Activation",
    "Affine",
    "AtariCNN",
    "AtariVec",
    "Attack",
    "AttackConfig",
    "Batch",
    "CollectConfig",
    "Config",
    "Dataset",
    "Derivatives",
    "DivergedError",
    "Engine",
    "EvaluateConfig",
    "Fidelity",
    "Figure",
    "FinetuneConfig",
    "Hook",
    "Hooks",
    "ImitateConfig",
    "Kept",
    "Lesson",
    "LoadedPolicy",
    "Logger",
    "Losses",
    "Made",
    "Minimised",
    "Model",
    "MultitaskConfig",
    "NetSpec",
    "Objective",
    "ObjectiveConfig",
    "Outputs",
    "OwnGames",
    "PbtConfig",
    "Place",
    "Preset",
    "ReCU",
    "ReportConfig",
    "RoundsConfig",
    "Saver",
    "Scene",
    "Seen",
    "ShrinkConfig",
    "Status",
    "Student",
    "StudentConfig",
    "SweepConfig",
    "Targets",
    "Task",
    "Teacher",
    "TeacherFormat",
    "Term",
    "ThreatConfig",
    "TrainConfig",
    "Training",
    "UserError",
    "attack",
    "collect",
    "draws_from",
    "evaluate",
    "fidelity_of_outputs",
    "finetune",
    "fit",
    "get_preset",
    "imitate",
    "lesson",
    "load_student",
    "load_teacher",
    "measure",
    "multitask",
    "pbt",
    "product",
    "register_attack",
    "register_figure",
    "register_layer",
    "register_logger",
    "register_network",
    "register_preset",
    "register_teacher_format",
    "register_term",
    "report",
    "rounds",
    "run_grid",
    "save_student",
    "shrink",
    "sobolev_loss",
    "sweep",
    "to_unit",
    "train",
    "validated",
]
