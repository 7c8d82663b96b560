"""The small commands: ``distill info``, ``verify``, ``export``, ``push``, ``pull`` and ``configs``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from distill.errors import UserError
from distill.system.files import at_home, place_here

if TYPE_CHECKING:
    from distill.collect.verify import Verdict
    from distill.dataset.reader import Dataset
    from distill.records.dataset import ShardRecord
    from distill.records.student import Training
    from distill.task import Task
    from teachers.card import CardScore

PAPERS = "student.json"
"""Of a student's own folder."""


def run(command: str, words: Sequence[str]) -> int:
    """Run one of them; returns the exit status."""
    parser = _Parser(prog=f"distill {command}")
    if command == "info":
        parser.add_argument(
            "what", help="teacher (bundled name, zip, rl-zoo run folder, hf://org/repo), dataset folder or student run"
        )
        parser.add_argument("--env", default=None, help="game, for a zip whose papers do not tell")
        parser.add_argument("--preset", default=None, help="preset to play on, whatever a teacher's papers say")
        args = parser.parse_args(words)
        _info(args.what, args.env, args.preset)
    elif command == "verify":
        parser.add_argument("dataset", help="dataset folder")
        parser.add_argument("--teacher", default=None, help="default: the one named in the dataset")
        parser.add_argument("--sample", type=int, default=256, help="states to label again")
        args = parser.parse_args(words)
        _verify(args.dataset, args.teacher, args.sample)
    elif command == "push":
        parser.add_argument("folder", help="dataset, run, student or teacher here")
        parser.add_argument("url", help="where to, such as s3://bucket/data/pong")
        args = parser.parse_args(words)
        _push(args.folder, args.url)
    elif command == "pull":
        parser.add_argument("url", help="what, such as s3://bucket/data/pong")
        parser.add_argument("folder", help="new folder here")
        args = parser.parse_args(words)
        _pull(args.url, args.folder)
    elif command == "configs":
        from distill.cli import configs

        parser.add_argument("name", nargs="?", help="settings file to copy; without it, all are listed")
        parser.add_argument("target", nargs="?", help="file or folder to copy it to; default: NAME.yaml here")
        args = parser.parse_args(words)
        configs.show(args.name, args.target)
    else:
        parser.add_argument("student", help="student's run folder")
        parser.add_argument("--format", default="onnx", help="onnx, int8 (ONNX, quantised), safetensors or sb3")
        parser.add_argument("--out", required=True, help="file to create")
        args = parser.parse_args(words)
        _export(args.student, args.format, args.out)
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a misspelt command line, or an empty word on it, like any other bad input."""

    def parse_args(self, words: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """Arguments that are all given, by ``None``, or by a text that can be a name."""
        args = super().parse_args(words)
        for name, value in vars(args).items():
            if isinstance(value, str) and not (value.strip() and value.isprintable()):
                raise UserError(f"{name} must be a name, got {value!r}; see {self.prog} --help")
        return args

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _info(what: str, env: str | None, preset: str | None) -> None:
    from distill.students.folder import is_student
    from teachers.layouts import student_folder

    path = student_folder(what)
    if (path / "dataset.json").exists():
        _dataset_info(path, env, preset)
    elif is_student(path):
        _student_info(path, env, preset)
    else:
        _teacher_info(what, env, preset)


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
        ("s, mean ||J'v||^2", f"{dataset.jacobian_scale:.4g}"),
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


def _verify(folder: str, given: str | None, sample: int) -> None:
    from distill.collect.verify import verify
    from distill.dataset.schema import read_manifest, teacher_name
    from distill.dataset.store import check_copies
    from distill.system.progress import print_table
    from teachers.load import load_teacher

    if sample < 1:
        raise UserError(f"--sample must be positive, got {sample}")
    where = at_home(folder)
    manifest = read_manifest(where)
    identity, tau = manifest.identity, manifest.teacher_tau or 0.01
    name = given or teacher_name(where, manifest)
    teacher = load_teacher(name, game=identity.game, preset=identity.teacher_preset, tau=tau)
    verdict = verify(where, teacher, sample=sample)
    copies = check_copies(where)
    rows = [
        ("checksums", f"{verdict.shards} shards, {verdict.states:,} states: all equal"),
        *_labels(verdict),
    ]
    if copies:
        rows.append(("copies for hold_data=disk", f"{copies}: all equal to their checksums"))
    print_table(f"{folder}: clean", ("", ""), rows)


def _labels(verdict: Verdict) -> list[tuple[str, str]]:
    if verdict.logit_error is None:
        return [("labels", f"finite, actions in range; {verdict.note}")]
    value, jacobian = verdict.value_error, verdict.jacobian_error
    return [
        ("labelled again", f"{verdict.sampled} states"),
        ("logits", f"within {verdict.logit_error:.1e}"),
        ("values", "not stored" if value is None else f"within {value:.1e}"),
        ("derivatives", "not stored" if jacobian is None else f"{jacobian:.2%} relative error"),
    ]


def _push(folder: str, url: str) -> None:
    from distill.dataset.opening import push_indexed
    from distill.system.mirror import push_folder
    from distill.system.stores import address, is_store

    path = at_home(folder)
    if not is_store(url):
        raise UserError(f"{url} is no address of a store; write s3://bucket/path, gs://bucket/path or file:///path")
    if not path.exists():
        raise UserError(f"there is nothing at {path}; name a dataset, a run, a student or a teacher")
    if path.is_file() and Path(address(url)).suffix != path.suffix:
        raise UserError(f"{path} is a file, and {url} is no file's name; write {address(url)}/{path.name}")
    if (path / "dataset.json").exists():
        print(f"sent: {push_indexed(path, address(url)):,} shards are in {address(url)}")
    else:
        _refuse_another(path, address(url))
        print(f"sent: {push_folder(path, address(url)):,} files are in {address(url)}")


def _refuse_another(folder: Path, url: str) -> None:
    """Files of two runs, students or datasets must not mix, nor one replace another: a reader would mistake them."""
    from distill.records.runs import differences
    from distill.system.stores import Store
    from distill.system.yaml_text import BadYaml, load_yaml
    from distill.train.run import FREE, MATTERS

    store = Store(url)
    if store.is_file():
        parent, _, name = url.rpartition("/")
        if not (folder.is_file() and Store(parent).same(name, folder)):
            raise UserError(f"{url} is a file that is there already; choose another address for {folder}")
        return
    for mark, what in (("dataset.json", "a dataset"), ("config.yaml", "a run"), (PAPERS, "a student")):
        if store.size(mark) is not None and not (folder / mark).is_file():
            raise UserError(f"{url} has {what}; choose another address for {folder}")
    if store.size(PAPERS) is not None and not store.same(PAPERS, folder / PAPERS):
        raise UserError(f"{url} has another student than {folder}; choose another address")
    there = store.read("config.yaml")
    if there is None or not (folder / "config.yaml").is_file():
        return
    try:
        before, now = load_yaml(there.decode()), load_yaml((folder / "config.yaml").read_text())
    except (BadYaml, UnicodeDecodeError):
        return  # cut off; the new one replaces it
    changed = differences(before or {}, now or {}, MATTERS, FREE)
    if changed:
        raise UserError(f"{url} has another run than {folder}: {'; '.join(changed)}; choose another address")


def _pull(url: str, folder: str) -> None:
    from distill.dataset.opening import pull
    from distill.system.stores import is_store

    if not is_store(url):
        raise UserError(f"{url} is no address of a store; write s3://bucket/path, gs://bucket/path or file:///path")
    pull(url, place_here(folder))
    print(f"fetched: {folder}")


def _export(path: str, form: str, out: str) -> None:
    from distill.cli.export import export
    from distill.multitask.onnx import students_of, write_joint_onnx
    from distill.students.folder import load_student
    from teachers.layouts import student_folder

    place, together = place_here(out), students_of(at_home(path))
    if together:
        if form != "onnx":
            raise UserError(f"{path} has a student of each of several games; export one of them, or all as onnx")
        write_joint_onnx(together, place)
    else:
        export(load_student(student_folder(path)), form, place)
    print(f"written: {out}")
