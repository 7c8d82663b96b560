"""``distill pull``: a dataset, run, student or teacher out of a store."""

from __future__ import annotations

import argparse

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
    from distill.system.stores import require_store

    require_store(args.url)
    pull(args.url, place_here(args.folder))
    print(f"fetched: {args.folder}")
