"""``distill push``: a dataset, run, student or teacher into a store."""

from __future__ import annotations

import argparse
from pathlib import Path

from distill.errors import UserError
from distill.system.files import at_home

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
