"""``distill verify``: whether a dataset is what its teacher said."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.errors import UserError
from distill.system.files import at_home

if TYPE_CHECKING:
    from distill.collect.verify import Verdict


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of the command."""
    parser.add_argument("dataset", help="dataset folder")
    parser.add_argument("--teacher", default=None, help="default: the one named in the dataset")
    parser.add_argument("--sample", type=int, default=256, help="states to label again")


def run(args: argparse.Namespace) -> None:
    """Compare checksums and labels, and print what was compared.

    Raises:
        UserError: naming what is damaged or differs.
    """
    from distill.collect.verify import verify
    from distill.dataset.schema import read_manifest, teacher_name
    from distill.dataset.store import check_copies
    from distill.system.progress import print_table
    from teachers.load import load_teacher

    if args.sample < 1:
        raise UserError(f"--sample must be positive, got {args.sample}")
    where = at_home(args.dataset)
    manifest = read_manifest(where)
    identity, tau = manifest.identity, manifest.teacher_tau or 0.01
    name = args.teacher or teacher_name(where, manifest)
    teacher = load_teacher(name, game=identity.game, preset=identity.teacher_preset, tau=tau)
    verdict = verify(where, teacher, sample=args.sample)
    copies = check_copies(where)
    rows = [
        ("checksums", f"{verdict.shards} shards, {verdict.states:,} states: all equal"),
        *_labels(verdict),
    ]
    if copies:
        rows.append(("copies for hold_data=disk", f"{copies}: all equal to their checksums"))
    print_table(f"{args.dataset}: clean", ("", ""), rows)


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
