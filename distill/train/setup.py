"""From settings and a dataset to what the training loop needs: batches, split, student, objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from distill.batches.loader import Loader
from distill.batches.parts import EVERY
from distill.batches.sampler import Order
from distill.batches.source import Index, make_source
from distill.dataset.opening import open_dataset as opened
from distill.dataset.reader import Dataset
from distill.dataset.split import by_random_games, split_by_episode
from distill.dataset.used import data_used as used_of
from distill.dataset.windowed import WindowedDataset
from distill.engine.captured import OWN_TERMS
from distill.errors import UserError
from distill.losses.schedule import jacobian_weight
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Objective
from distill.losses.terms import make_terms
from distill.losses.trial import try_terms
from distill.networks.build import build_student
from distill.networks.inherit import inherit, refuse_other_eyes
from distill.records.data import DataUsed
from distill.system.settings import fill
from distill.system.streams import Stream, numbered
from distill.train.auto import Plan, make_plan
from distill.train.first_weights import start_from
from distill.train.order import make_sampler
from distill.train.schedule import learning_rate
from distill.train.settings import TrainRun
from distill.train.team import ALONE, Team
from teachers.protocol import Teacher

VANISHING = 1e-30
"""A mean square of derivatives below this counts as zero."""


@dataclass(frozen=True)
class Data:
    """A dataset, and which of its states are for what."""

    dataset: Dataset
    loader: Loader
    train_index: Index
    """States to train on."""
    val_index: Index
    """Held-out states to validate on."""
    used: DataUsed
    plan: Plan
    """How the training goes over them."""
    sampler: Order
    """Which of them each batch has."""


def open_data(config: TrainRun, device: torch.device, dataset: Dataset | None = None, team: Team = ALONE) -> Data:
    """The dataset that the settings name, with a loader; of a team's, each process holds its part.

    Args:
        config: settings.
        device: where batches go.
        dataset: it, where it has been opened before.
        team: processes that take each step together.

    Raises:
        UserError: it is not there, damaged, or not what the objective asks for.
    """
    if dataset is None:
        dataset = open_dataset(config, config.train.verify, team.world)
    team.refuse_other(dataset.digest)
    check_dataset(config, dataset)
    loader = make_loader(config, dataset, device)
    train_index, val_index = training_split(config, dataset)
    dataset.keep(val_index)
    plan = make_plan(config, len(train_index), dataset.identity.jacobian_share)
    sampler = make_sampler(config, plan, dataset, train_index, team)
    return Data(dataset, loader, train_index, val_index, data_used(config, dataset, train_index), plan, sampler)


def open_dataset(config: TrainRun, verify: bool, processes: int = 1) -> Dataset:
    """The dataset that the settings name, held as they say by each of so many processes.

    Raises:
        UserError: no dataset, damage, or parts that the processes cannot share equally.
    """
    t = config.train
    if t.parts % processes and t.parts > 1:
        raise UserError(f"--train.parts={t.parts} cannot be held by {processes} processes equally; use a multiple")
    window = t.window_shards or (EVERY if t.parts > 1 else 0)  # a part as a whole is a window of all its shards
    if 0 < window < EVERY and t.parts > 1:  # each part has one more, that comes next
        window = (window + 1) * t.parts // processes - 1
    return opened(fill(t.data, env=config.env), hold_data=t.hold_data, window_shards=window, verify=verify)


def check_dataset(config: TrainRun, dataset: Dataset) -> None:
    """Refuse data of another game, or without the derivatives that the objective asks for, and terms that fail."""
    identity, o = dataset.identity, config.objective
    dataset.task.refuse_other(dataset.task.but(config.env), str(dataset.folder), "set --env or --train.data")
    dataset.task.refuse_other(dataset.task.but(preset=config.preset), str(dataset.folder), "leave --preset out")
    _check_eyes(config, dataset)
    try_terms(make_terms(o.terms), dataset.logits.shape[1], config.device)
    if o.derivatives and o.jacobian_targets == "stored":
        _check_stored(o, dataset)
    # The index of a dataset in windows was checked when it was made.
    windowed = isinstance(dataset, WindowedDataset)
    wrong = np.flatnonzero(~np.isfinite(dataset.logits[: 0 if windowed else None]).all(1))
    if len(wrong):
        raise UserError(
            f"{dataset.folder} has NaN or infinite logits in {len(wrong)} of {len(dataset)} states, the first of them "
            f"state {wrong[0]}; run `distill verify`, and collect again"
        )
    if o.jacobian_weight > 0 and o.jacobian_targets == "stored":
        check_scale(dataset, dataset.jacobian_scale)
    stored = identity.k if identity.jacobian == "projected" else None
    if o.derivatives and o.jacobian_targets == "stored" and stored is not None and (o.k or 1) > stored:
        raise UserError(
            f"--objective.k={o.k} but {dataset.folder} stores {stored} projections a state; lower it, or use "
            "--objective.jacobian_targets=online"
        )
    if o.jacobian_weight > 0 and o.temperature != 1 and identity.space != "logits":
        raise UserError(
            f"--objective.temperature={o.temperature} rescales derivatives of logits only, but {dataset.folder} "
            f"stores those of {identity.space}; use temperature 1 or collect with --collect.space=logits"
        )


def _check_stored(objective: ObjectiveConfig, dataset: Dataset) -> None:
    """Refuse data with derivatives of too few states, or of another law than was asked for."""
    identity, wanted = dataset.identity, objective.jacobian_share
    share, law = identity.jacobian_share, objective.law
    if identity.jacobian == "none":
        raise UserError(
            f"{dataset.folder} stores no derivatives; use --objective.jacobian_targets=online or "
            "--objective.jacobian_weight=0, or collect with --collect.jacobian=projected"
        )
    if not dataset.has_jacobian:
        raise UserError(
            f"{dataset.folder} stores derivatives of a share of its states, {share}, and of {len(dataset)} that is "
            "none yet; collect more, or use --objective.jacobian_targets=online or --objective.jacobian_weight=0"
        )
    if wanted != "auto" and wanted > share:
        raise UserError(
            f"--objective.jacobian_share={wanted} of each batch, but {share} of the states of {dataset.folder} carry "
            f"derivatives; set it to {share} or less, or use --objective.jacobian_targets=online"
        )
    if identity.jacobian == "projected" and law not in (identity.law, ObjectiveConfig.law):
        raise UserError(
            f"--objective.law={law}, but the projections that {dataset.folder} stores have law {identity.law}; leave "
            "it out, or use --objective.jacobian_targets=online"
        )


def _check_eyes(config: TrainRun, dataset: Dataset) -> None:
    """Refuse to ask a teacher of another preset about what is recorded."""
    identity, o = dataset.identity, config.objective
    if config.teacher_preset not in (None, identity.teacher_preset):
        raise UserError(
            f"the teacher of {dataset.folder} saw preset {identity.teacher_preset}, not {config.teacher_preset}; "
            "leave --teacher_preset out, or collect anew"
        )
    flags = {"jacobian_weight": o.derivatives, "input_noise": o.input_noise > 0}
    wanted = [f"--objective.{name}" for name, asked in flags.items() if asked]
    if wanted and not identity.same_eyes:
        raise UserError(
            f"{dataset.folder} records preset {identity.preset} and its teacher saw {identity.teacher_preset}, so the "
            f"teacher has neither derivatives nor labels for other pixels of it; set {' and '.join(wanted)} to 0"
        )


def check_scale(dataset: Dataset, scale: float) -> None:
    """Refuse a mean square of derivatives that nothing can be divided by."""
    if not math.isfinite(scale):
        raise UserError(f"{dataset.folder} has NaN or infinite derivatives; run `distill verify`, and collect again")
    if scale < VANISHING:
        raise UserError(
            f"the derivatives in {dataset.folder} are all zero, or nearly: its teacher says the same whatever it sees, "
            "and there is nothing to match; use --objective.jacobian_weight=0, or another teacher"
        )


def make_loader(config: TrainRun, dataset: Dataset, device: torch.device) -> Loader:
    """A loader with the teacher at hand where fresh derivatives or labels are asked for."""
    teacher, o = None, config.objective
    online = o.jacobian_targets == "online" and o.derivatives
    if online or o.input_noise > 0:
        teacher = labeller(config, dataset)
    source = make_source(dataset, device, config.train.hold_data, derivatives=not online)
    return Loader(dataset, o, device, config.seed, teacher, source)


def labeller(config: TrainRun, dataset: Dataset) -> Teacher:
    """The teacher that labelled the dataset.

    Raises:
        UserError: it cannot be loaded, or ``config.teacher`` is another.
    """
    from teachers.load import load_teacher

    sees, tau = dataset.identity.teacher_preset, dataset.manifest.teacher_tau or config.tau
    teacher = load_teacher(config.teacher, game=config.env, preset=sees, tau=tau)
    if teacher.info.fingerprint != dataset.identity.teacher:
        raise UserError(
            f"teacher {config.teacher} did not label {dataset.folder}, {dataset.teacher_name} did; name it by --teacher"
        )
    return teacher


def training_split(config: TrainRun, dataset: Dataset) -> tuple[Index, Index]:
    """Training and validation states: whole games apart, each at most as many as asked for."""
    train_index, val_index = split_by_episode(dataset, config.train.val_fraction, config.seed)
    if config.train.states is not None:
        if config.train.states > len(train_index):
            raise UserError(
                f"--train.states={config.train.states} but {dataset.folder} has {len(train_index)} training states"
            )
        train_index = np.sort(by_random_games(dataset, train_index, config.seed)[: config.train.states])
    chosen = numbered(Stream.HELD_OUT, config.seed).permutation(val_index)[: config.train.val_states]
    return train_index, np.sort(chosen)


def data_used(config: TrainRun, dataset: Dataset, train_index: Index) -> DataUsed:
    """Which data a run with these training states uses."""
    return used_of(dataset, train_index, split_by_episode(dataset, config.train.val_fraction, config.seed)[1])


def make_student(config: TrainRun, dataset: Dataset) -> nn.Module:
    """The student that the config describes, with fresh or given weights."""
    s = config.student
    net = build_student(s, dataset.logits.shape[1])
    start_from(net, config, dataset)
    if s.teacher_layers:
        refuse_other_eyes(dataset.identity.teacher_preset, dataset.identity.preset)
        inherit(net, labeller(config, dataset).net, s.teacher_layers)
    return net


def make_objective(config: TrainRun, plan: Plan, dataset: Dataset, scale: float) -> Objective:
    """The objective with its normaliser s.

    Raises:
        UserError: there are no derivatives to match, or damaged ones.
    """
    o = config.objective
    if o.jacobian_weight > 0:
        check_scale(dataset, scale)
    terms = make_terms(o.terms)
    if config.train.cuda_graph and terms:
        raise UserError(OWN_TERMS)
    return Objective(
        o.divergence, dataset.identity.space, o.match, o.jacobian_blur, o.temperature, scale,
        o.jacobian_weight, o.jacobian_schedule, plan.jacobian_until, plan.jacobian_share, terms,
    )  # fmt: skip


def make_learning_rate(config: TrainRun, plan: Plan) -> Callable[[int, int], float]:
    """Learning rate of (step, steps in all); plain distillation follows the schedule of lambda, too."""
    early, late, warmup = plan.early_learning_rate, plan.learning_rate, config.train.warmup

    def rate(step: int, total: int) -> float:
        left = jacobian_weight(step, total, 1.0, config.objective.jacobian_schedule, plan.jacobian_until)
        return learning_rate(step, total, late + (early - late) * left, warmup)

    return rate


def scale_of(config: TrainRun, data: Data) -> float:
    """s: mean square of the teacher's derivatives over the training states; 1 where nothing is divided by it."""
    o = config.objective
    if o.jacobian_weight == 0:
        return 1.0
    return data.loader.mean_square(data.train_index, o.temperature, o.jacobian_blur)


def steps(config: TrainRun, sampler: Order) -> tuple[int, int]:
    """(optimizer steps in all, for schedules; the step after which this run ends).

    Raises:
        UserError: the run would end later than its schedules.
    """
    t = config.train
    total = t.steps if t.epochs is None else max(1, round(t.epochs * sampler.steps_per_epoch))
    last = total if t.last_step is None else t.last_step
    if last > total:
        raise UserError(f"--train.last_step={last} is beyond the {total} steps in all; lower it, or raise {t.length}")
    return total, last
