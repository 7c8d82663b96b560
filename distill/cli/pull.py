"""``distill pull``: a dataset, run, student or teacher out of a store."""

from __future__ import annotations

import argparse

from distill.errors import UserError
from distill.system.files import place_here


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of the command."""
    parser.add_argument("url", help="what, such as s3://bucket/data/pong")
    parser.add_argument("folder", help="new folder here")


def run(args: argparse.Namespace) -> None:
    """Fetch all of it.

    Raises:
        UserError: the address is no store's, or the folder has something else.
    """
    from distill.dataset.opening import pull
    from distill.system.stores import is_store

    if not is_store(args.url):
        raise UserError(
            f"{args.url} is no address of a store; write s3://bucket/path, gs://bucket/path or file:///path"
        )
    pull(args.url, place_here(args.folder))
    print(f"fetched: {args.folder}")
