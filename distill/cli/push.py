"""``distill push``: a dataset, run, student or teacher into a store."""

from __future__ import annotations

import argparse
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import UserError
from distill.system.files import at_home

if TYPE_CHECKING:
    from distill.system.settings import Section
    from distill.system.stores import Store

PAPERS = "student.json"
"""Of a student's own folder."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of the command."""
    parser.add_argument("folder", help="dataset, run, student or teacher here")
    parser.add_argument("url", help="where to, such as s3://bucket/data/pong")


def run(args: argparse.Namespace) -> None:
    """Send what is not there yet.

    Raises:
        UserError: the address is no store's, or has something else.
    """
    from distill.dataset.opening import push_indexed
    from distill.system.mirror import push_folder
    from distill.system.stores import address, require_store

    require_store(args.url)
    path, url = at_home(args.folder), address(args.url)
    if not path.exists():
        raise UserError(f"there is nothing at {path}; name a dataset, a run, a student or a teacher")
    if path.is_file() and Path(url).suffix != path.suffix:
        raise UserError(f"{path} is a file, and {args.url} is no file's name; write {url}/{path.name}")
    _refuse_another(path, url)
    if (path / "dataset.json").exists():
        print(f"sent: {push_indexed(path, url):,} shards are in {url}")
    else:
        print(f"sent: {push_folder(path, url):,} files are in {url}")


def _refuse_another(folder: Path, url: str) -> None:
    """Files of two runs, students or datasets must not mix, nor one replace another: a reader would mistake them."""
    from distill.records.runs import completed, differences
    from distill.system.stores import Store
    from distill.system.yaml_text import BadYaml, load_yaml

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
        _refuse_other_students(folder, store, url)
        return
    try:
        before, now = load_yaml(there.decode()), load_yaml((folder / "config.yaml").read_text())
    except (BadYaml, UnicodeDecodeError):
        return  # cut off; the new one replaces it
    before, now = before or {}, now or {}
    stage = _stage_of(now)
    kind, matters, free = _settings_of(stage, now)
    changed = [] if _stage_of(before) == stage else [f"it is of distill {_stage_of(before)}, not {stage}"]
    changed = changed or differences(completed(before, kind), completed(now, kind), matters, free)
    data = folder / "data.json"
    if data.is_file() and store.size(data.name) is not None and not store.same(data.name, data):
        changed.append("it is of other data")
    if changed:
        raise UserError(f"{url} has another run than {folder}: {'; '.join(changed)}; choose another address")


def _refuse_other_students(folder: Path, store: Store, url: str) -> None:
    """Students in folders below are no continuation of others of their names, where no run says so."""
    for papers in sorted(folder.glob(f"**/{PAPERS}")):
        name = papers.relative_to(folder).as_posix()
        if store.size(name) is not None and not store.same(name, papers):
            raise UserError(f"{url} has another student than {papers.parent}; choose another address")


def _stage_of(settings: Mapping[str, Any]) -> str:
    """The command that a run is of: the first of these that it has settings of."""
    stages = ("shrink", "multitask", "sweep", "pbt", "finetune", "rounds", "imitate")
    return next((stage for stage in stages if stage in settings), "train")


def _settings_of(stage: str, settings: Mapping[str, Any]) -> tuple[type[Section], Sequence[str], Container[str]]:
    """Class of the settings of this command, what makes a run of it another run, and what of that may change."""
    from distill.train import run as of_training
    from distill.train.settings import TrainRun

    if stage == "shrink":
        from distill.shrink import run as ladder
        from distill.shrink.settings import ShrinkRun

        by = str((settings["shrink"] or {}).get("by"))
        return ShrinkRun, (*ladder.MATTERS, "shrink", *ladder.LEARNING.get(by, ())), ladder.FREE
    if stage == "multitask":
        from distill.multitask import loop as of_several
        from distill.multitask.settings import MultitaskRun

        return MultitaskRun, of_several.MATTERS, of_several.FREE
    if stage == "pbt":
        from distill.pbt import run as population
        from distill.pbt.settings import PbtRun

        return PbtRun, population.MATTERS, population.FREE
    if stage == "finetune":
        from distill.finetune import progress as tuned
        from distill.finetune.settings import FinetuneRun

        return FinetuneRun, tuned.MATTERS, tuned.FREE
    if stage in ("rounds", "imitate"):
        from distill.imitate.settings import ImitateRun
        from distill.rounds.settings import RoundsRun

        kind = RoundsRun if stage == "rounds" else ImitateRun
        return kind, kind.MATTERS, kind.FREE
    if stage == "sweep":
        from distill.sweep.settings import SweepRun

        grid = (settings["sweep"] or {}).get("grid") or {}  # its values may be more
        matters = (*of_training.MATTERS, "sweep.data", "sweep.test_states", "sweep.games")
        return SweepRun, matters, {*of_training.FREE, *grid}
    return TrainRun, of_training.MATTERS, of_training.FREE
