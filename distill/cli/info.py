"""``distill info``: what is known of a teacher, dataset or student."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.dataset.reader import Dataset
    from distill.records.dataset import ShardRecord
    from distill.records.student import Training
    from distill.task import Task
    from teachers.card import CardScore


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of the command."""
    parser.add_argument(
        "what", help="teacher (bundled name, zip, rl-zoo run folder, hf://org/repo), dataset folder or student run"
    )
    parser.add_argument("--env", default=None, help="game, for a zip whose papers do not tell")
    parser.add_argument("--preset", default=None, help="preset to play on, whatever a teacher's papers say")


def run(args: argparse.Namespace) -> None:
    """Print one table."""
    from distill.students.folder import is_student
    from teachers.layouts import student_folder

    path = student_folder(args.what)
    if (path / "dataset.json").exists():
        _dataset_info(path, args.env, args.preset)
    elif is_student(path):
        _student_info(path, args.env, args.preset)
    else:
        _teacher_info(args.what, args.env, args.preset)


def _teacher_info(what: str, env: str | None, asked: str | None) -> None:
    from distill.envs.games import game_info
    from distill.envs.presets import get_preset
    from distill.system.progress import print_table
    from teachers.card import card_scores
    from teachers.load import find_teacher, load_teacher
    from teachers.mixture import PREFIX, parts_of

    source = find_teacher(what)
    scores = card_scores(what, source.card)
    files = [find_teacher(one).path for one in parts_of(what)] if what.startswith(PREFIX) else [source.path]
    teacher = load_teacher(what, game=env, preset=asked)
    info = teacher.info
    preset = get_preset(info.preset)
    rows = [
        ("game", info.game),
        ("algorithm", info.algorithm + (f", logits = Q / {info.tau}" if info.tau else "")),
        *_layers(teacher.net),
        ("parameters", f"{info.parameters:,}"),
        ("actions", ", ".join(game_info(info.game).actions)),
        ("preset", f"{preset.name} ({preset.hash})"),
        ("fingerprint", info.fingerprint),
        *(("file", str(file)) for file in files),
        *((", ".join(filter(None, ("score", score.protocol))), _score_text(score)) for score in scores),
    ]
    print_table(f"teacher {what}", ("", ""), rows)


def _layers(net: Any) -> list[tuple[str, str]]:
    """What a network is made of, where its layers are described."""
    from distill.networks.nets import spec_of

    spec = spec_of(net)
    return [] if spec is None else [("layers", spec.words())]


def _score_text(score: CardScore) -> str:
    told = [f"{score.mean}"]
    told[0] += "" if score.standard_error is None else f" ± {score.standard_error} (standard error)"
    told += [] if score.games is None else [f"{score.games} games"]
    told += [] if score.preset is None else [f"preset {score.preset}"]
    return ", ".join(told)


def _check_asked(path: Path, task: Task, env: str | None, preset: str | None) -> None:
    """Refuse another game or preset than the one that stands on the papers of ``path``."""
    from distill.envs.games import canonical_game

    task.refuse_other(task.but(game=env and canonical_game(env)), str(path), "leave --env out")
    task.refuse_other(task.but(preset=preset), str(path), "leave --preset out")


def _dataset_info(path: Path, env: str | None, asked: str | None) -> None:
    import numpy as np

    from distill.dataset.reader import Dataset
    from distill.system.progress import print_table

    dataset = Dataset(path)
    identity = dataset.identity
    _check_asked(path, dataset.task, env, asked)
    writers: dict[str, list[ShardRecord]] = {}
    for shard, record in zip(dataset.shards, dataset.records, strict=True):
        writers.setdefault(shard.name.rsplit("-", 1)[0], []).append(record)
    size = sum(file.stat().st_size for shard in dataset.shards for file in shard.iterdir())
    rows = [
        ("game", identity.game),
        ("teacher", f"{dataset.teacher_name} ({identity.teacher[:12]})"),
        ("preset", f"{identity.preset} ({identity.preset_hash})"),
        *_other_eyes(dataset.task, identity.teacher_preset, identity.teacher_preset_hash),
        ("states", f"{len(dataset):,} in {len(np.unique(dataset.episode)):,} games, {len(dataset.shards)} shards"),
        (
            "derivatives",
            f"{identity.jacobian}, {identity.k} rows of {identity.space}, law {identity.law}, {identity.codec}",
        ),
        *_share(dataset),
        ("s, mean ||J'v||^2", f"{dataset.jacobian_scale:.4g}" if identity.jacobian != "none" else "-"),
        ("size", f"{size / 2**20:,.0f} MiB, {size / len(dataset) / 1024:.1f} KiB per state"),
    ]
    for name, records in writers.items():
        scores = [game.score for record in records for game in record.games]
        played = f"{len(scores)} games, mean score {np.mean(scores):.1f}" if scores else "no whole game"
        rows.append((f"writer {name}", f"{sum(record.states for record in records):,} states, {played}"))
    print_table(f"dataset {path}", ("", ""), rows)


def _share(dataset: Dataset) -> list[tuple[str, str]]:
    """How many states carry derivatives, where not all do."""
    share = dataset.identity.jacobian_share
    return [] if share == 1 else [("carried by", f"{dataset.carries.sum():,} states, a share of {share:g}")]


def _other_eyes(task: Task, preset: str, preset_hash: str) -> list[tuple[str, str]]:
    """What the teacher saw, where that is not what is recorded."""
    same = (preset, preset_hash) == (task.preset, task.preset_hash)
    return [] if same else [("teacher's preset", f"{preset} ({preset_hash})")]


def _student_info(path: Path, env: str | None, asked: str | None) -> None:
    from distill.networks.nets import count_parameters
    from distill.students.folder import load_student
    from distill.system.progress import print_table

    student = load_student(path)
    task, training = student.task, student.training if student.record.is_trained else None
    _check_asked(path, task, env, asked)
    name = "" if training is None else f"{training.student}, "
    rows = [
        ("game", task.game),
        ("network", f"{name}{count_parameters(student.net):,} parameters"),
        *_layers(student.net),
        ("preset", f"{task.preset} ({task.preset_hash})"),
        *([("training", "not told")] if training is None else _training_rows(task, training)),
        ("fingerprint", student.fingerprint),
    ]
    if training is not None:
        rows += [(name.replace("val_", "val/"), "-" if value is None else f"{value:.4f}")
                 for name, value in training.metrics.items()]  # fmt: skip
    print_table(f"student {path}", ("", ""), rows)


def _training_rows(task: Task, training: Training) -> list[tuple[str, str]]:
    return [
        *_other_eyes(task, training.teacher_preset, training.teacher_preset_hash),
        ("teacher", f"{training.teacher_name} ({training.teacher[:12]})" if training.teacher else "none"),
        ("dataset", f"{training.data.folder}, {training.data.states:,} states"),
        ("objective", ", ".join(f"{key} {value}" for key, value in training.objective.items())),
    ]
