"""``distill train``: fit a student to a dataset. Read ``train`` from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.batches.loader import Batch, Loader, Sampler, batches
from distill.batches.source import Index
from distill.dataset.reader import Dataset
from distill.dataset.repeats import repeats
from distill.dataset.used import DataUsed
from distill.engine.engine import Engine
from distill.engine.step import make_engine, make_step
from distill.errors import DivergedError, UserError
from distill.figures.fidelity import Fidelity, fidelity
from distill.losses.sobolev import Losses
from distill.networks.nets import AtariCNN, count_parameters
from distill.students.folder import is_student, save_student
from distill.system.device import arithmetic, pick_device
from distill.system.files import remove_leftovers
from distill.system.progress import Bar, console, print_table
from distill.system.settings import fill
from distill.train.checkpoint import Progress, Saver, best_weights, newest_checkpoint
from distill.train.logs import TrainLog
from distill.train.network import named_after, network_name, network_text
from distill.train.run import objective_name, open_run
from distill.train.schedule import jacobian_weight, learning_rate
from distill.train.settings import TrainRun
from distill.train.setup import (
    check_dataset,
    data_used,
    make_loader,
    make_objective,
    make_student,
    total_steps,
    training_split,
)
from distill.train.team import Team


def train(config: TrainRun, net: nn.Module | None = None) -> Path:
    """Fit a student and write its run folder.

    Args:
        config: validated settings.
        net: train this network, (B, 4, 84, 84) to (B, A), in place of ``config.student``; the run is
            named after its class. It is checkpointed, and gets a student folder if it is an ``AtariCNN`` or can be
            built again: by a registered name, or by its class's, called with the number of actions.

    Returns:
        The run folder.

    Raises:
        UserError: bad settings or data.
        DivergedError: the loss became NaN or infinite; it is a UserError too.
    """
    team = Team.join()
    config = config if net is None else named_after(config, net)
    device = team.device(pick_device(config.device))
    dtype = arithmetic(device, config.train.precision)
    dataset = Dataset(
        fill(config.train.data, env=config.env), verify=config.train.verify, mapped=config.train.hold_data == "disk"
    )
    check_dataset(config, dataset)
    loader = make_loader(config, dataset, device)
    train_index, val_index = training_split(config, dataset)
    torch.manual_seed(config.seed)
    model = (net or make_student(config, dataset)).to(device)
    sampler = Sampler(train_index, config.train.batch_size, config.seed)
    share = team.share(sampler.batch_size)
    used = data_used(config, dataset, train_index)
    folder, resuming = team.agree(open_run(config, used) if team.main else (Path(), False))
    if is_student(folder):
        console.print(f"{folder}: already trained; nothing to do")
        return folder

    engine = make_engine(model, dtype) if config.train.engine == "fast" else None
    compute_gradient = make_step(model, engine, cuda_graph=config.train.cuda_graph)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=config.train.weight_decay, fused=True)
    total = total_steps(config, sampler)
    with_jacobian = config.objective.jacobian_weight > 0
    progress, best = Progress(train_states=len(train_index), data=used.to_dict()), dict[str, torch.Tensor]()
    if resuming:
        progress, best = _restore(folder, device, model, optimizer, used, progress.train_states)
    elif with_jacobian:
        progress.jacobian_scale = loader.mean_square(
            train_index, config.objective.temperature, config.objective.jacobian_blur
        )
    objective = make_objective(config, dataset, progress.jacobian_scale)
    describe(config, dataset, model, train_index, val_index, total, sampler)
    if config.train.verify and team.main:
        describe_repeats(dataset, train_index, val_index)

    log = TrainLog(folder if team.main else None, progress.step)
    saver = Saver(folder if team.main else None, model, optimizer, progress, config, best)
    clock = time.perf_counter() - progress.seconds
    last = progress.step if out_of_patience(config, progress) else total
    stream = batches(loader, sampler, progress.step, last, derivatives=with_jacobian, share=share)
    with log, saver, Bar(f"train {objective_name(config.objective)}", "steps", total, progress.step) as bar:
        for batch in stream:
            saver.check(team)
            step = progress.step
            lr = learning_rate(step, total, config.train.learning_rate, config.train.warmup)
            weight = jacobian_weight(step, total, config.objective.jacobian_weight, config.objective.jacobian_schedule)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
            losses = compute_gradient(batch.obs, batch.logits, batch.targets, weight, objective)
            losses = team.average(model.parameters(), losses)
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.train.max_grad_norm or float("inf"))
            _stop_if_not_finite(norm, losses, step, batch, folder)
            optimizer.step()
            progress.step = step + 1
            progress.seconds = time.perf_counter() - clock

            if progress.step % config.train.log_every == 0:
                log.train(progress.step, losses, norm, lr, weight if with_jacobian else None, sampler.batch_size)
                bar.update(progress.step, f"loss {float(losses.total):.4f}")
            if progress.step % config.train.val_every == 0 or progress.step == total:
                scores = score(team, model, engine, loader, val_index, config.objective.temperature)
                _stop_if_diverged(scores, progress.step, folder)
                saver.judge(scores)
                log.validation(progress.step, scores)
                bar.update(progress.step, f"val/kl {scores.kl:.4f}")
                if out_of_patience(config, progress):
                    break
            if progress.step % config.train.checkpoint_every == 0:
                saver.save("last")
        bar.stop()
        saver.save("last")
        if team.main:
            log.saliency(progress.step, model, engine, loader, val_index)
            finish(config, folder, dataset, loader, val_index, model, saver, log)
        return team.agree(folder)  # no one leaves before the student is written


def score(
    team: Team, model: nn.Module, engine: Engine | None, loader: Loader, val_index: Index, temperature: float
) -> Fidelity:
    """Fidelity on the held-out states, known to every process."""
    scores = fidelity(model, engine, loader, val_index, temperature) if team.main else None
    found = team.agree(scores)
    assert found is not None
    return found


def out_of_patience(config: TrainRun, progress: Progress) -> bool:
    """True after ``train.patience`` validations without a better val/kl."""
    return 0 < config.train.patience <= progress.bad_validations


def describe(
    config: TrainRun, dataset: Dataset, model: nn.Module, train_index: Index, val_index: Index, total: int, s: Sampler
) -> None:
    """Print what is about to happen."""
    console.print(
        f"{network_text(config.student)} ({count_parameters(model):,} parameters) on {len(train_index):,} states of "
        f"{dataset.folder}, {len(val_index):,} held out; {total:,} steps of {s.batch_size} "
        f"({total / s.steps_per_epoch:.1f} epochs), {objective_name(config.objective)}, seed {config.seed}"
    )


def describe_repeats(dataset: Dataset, train_index: Index, val_index: Index) -> None:
    """Print how much of the held-out states is no test, because training has the very same pixels."""
    share = repeats(dataset, val_index, dataset, train_index)
    if share > 0:
        console.print(f"{share:.1%} of the held-out states scored occur, pixel by pixel, among the training states")


def finish(
    config: TrainRun, folder: Path, dataset: Dataset, loader: Loader, val_index: Index, model: nn.Module,
    saver: Saver, log: TrainLog,
) -> None:  # fmt: skip
    """Score the best weights once more and write the student folder."""
    progress = saver.progress
    model.load_state_dict(saver.best)
    saver.check_best()
    scores = fidelity(model, make_engine(model), loader, val_index, config.objective.temperature)
    metrics = {f"val_{name}": value for name, value in dataclasses.asdict(scores).items()}
    log.end(folder, _settings(config, progress), progress.best_step, scores)
    actions = dataset.logits.shape[1]
    network = network_name(config, model, actions)
    if isinstance(model, AtariCNN) or network is not None:
        save_student(folder / "student", model, _facts(config, dataset, metrics, progress), network, actions)
    rows = [(name.replace("val_", "val/"), "-" if value is None else f"{value:.4f}") for name, value in metrics.items()]
    remove_leftovers(folder, below=True)
    rows += [("best step", str(progress.best_step)), ("time", f"{progress.seconds:.0f} s"), ("run", str(folder))]
    print_table(f"trained {objective_name(config.objective)}", ("", ""), rows)


def _settings(config: TrainRun, progress: Progress) -> dict[str, Any]:
    """What the HPARAMS tab shows of a run, by short names."""
    t = config.train
    return {
        "student": network_text(config.student),
        **dataclasses.asdict(config.objective),
        "states": progress.train_states,
        "steps": progress.step,
        **{name: getattr(t, name) for name in ("batch_size", "learning_rate", "warmup", "max_grad_norm",
                                               "weight_decay", "precision")},
        "seed": config.seed,
    }  # fmt: skip


def _facts(config: TrainRun, dataset: Dataset, metrics: dict[str, Any], progress: Progress) -> dict[str, Any]:
    identity = dataset.identity
    return {
        "student": config.student.name,
        "game": identity.game,
        "preset": identity.preset,
        "preset_hash": identity.preset_hash,
        "teacher_preset": identity.teacher_preset,
        "teacher_preset_hash": identity.teacher_preset_hash,
        "teacher": identity.teacher,
        "teacher_name": dataset.teacher_name,
        "teacher_tau": dataset.manifest["teacher"].get("tau"),
        "dataset": progress.data,
        "objective": dataclasses.asdict(config.objective),
        "jacobian_scale": progress.jacobian_scale,
        "seed": config.seed,
        "val_fraction": config.train.val_fraction,
        "steps": progress.step,
        "best_step": progress.best_step,
        "train_seconds": progress.seconds,
        "metrics": metrics,
    }


def _restore(
    folder: Path, device: torch.device, model: nn.Module, optimizer: torch.optim.Optimizer, used: DataUsed, states: int
) -> tuple[Progress, dict[str, torch.Tensor]]:
    content = newest_checkpoint(folder, device)
    before = Progress(**content["progress"])
    change = used.change_since(before.data)
    if before.train_states != states:
        change = change or f"it had {before.train_states:,} training states then and has {states:,} now"
    if change:
        raise UserError(f"the checkpoint in {folder} is of other data: {change}; choose another --train.out")
    if not before.data:
        console.print(f"{folder}: its checkpoint is of an earlier version, which does not say of which data it is")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["rng"].cpu())
    console.print(f"{folder}: continuing at step {content['progress']['step']}")
    return dataclasses.replace(before, data=used.to_dict()), best_weights(content, folder, device)


def _stop_if_not_finite(norm: torch.Tensor, losses: Losses, step: int, batch: Batch, folder: Path) -> None:
    """A NaN or Inf anywhere in loss or gradient shows in the gradient's norm."""
    if torch.isfinite(norm + losses.total):  # one question, since each waits for the GPU
        return
    batch.check(step + 1)
    states = ", ".join(map(str, batch.index[:4]))
    loss = f"loss {float(losses.total)}, gradient norm {float(norm)}, batch of states {states}, ..."
    raise _diverged(step + 1, loss, folder)


def _stop_if_diverged(scores: Fidelity, step: int, folder: Path) -> None:
    """The last update of all can blow up without a loss to show it."""
    for name, value in vars(scores).items():
        if value is not None and not math.isfinite(value):
            raise _diverged(step, f"val/{name} {value}", folder)


def _diverged(step: int, what: str, folder: Path) -> DivergedError:
    last = folder / "checkpoints" / "last.pt"
    good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint had been saved yet"
    return DivergedError(
        f"training stopped at step {step}: {what}; {good}; "
        "try a lower --train.learning_rate or --objective.jacobian_weight"
    )
