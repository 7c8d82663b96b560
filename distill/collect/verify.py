"""``distill verify``: is every byte what was written, and are the labels really the teacher's?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from distill.collect.label import Labeller
from distill.dataset.checked import open_checked
from distill.dataset.codec import RELATIVE_ERROR
from distill.dataset.reader import Dataset
from distill.errors import UserError
from distill.networks.nets import draws_at_play
from distill.system.streams import generator
from teachers.protocol import Teacher

TOLERANCE = 1e-3
"""Largest difference of a logit or value, relative to the largest logit or value (at least 1)."""


@dataclass(frozen=True)
class Verdict:
    """What was checked and how far labels were off."""

    states: int
    """States in the dataset."""
    shards: int
    """Shards, each with every file's checksum equal to its record."""
    sampled: int
    """States labelled again; of data with derivatives of a share, as many of these again."""
    logit_error: float | None
    """Largest difference of a logit, relative to the largest logit (at least 1); None where none was labelled again."""
    value_error: float | None
    """The same of values, or None where none is stored."""
    jacobian_error: float | None
    """||stored - fresh|| / ||fresh|| over the sample, or None where none is stored."""
    note: str = ""
    """Why nothing was labelled again, where nothing was."""


def verify(folder: str | Path, teacher: Teacher, *, sample: int = 256, seed: int = 0) -> Verdict:
    """Check a dataset's files against their checksums and a sample of labels against the teacher.

    A teacher of another preset than the recorded one cannot label again, since what it saw is not recorded; nor can one
    that draws noise at play, which says another thing each time.

    Args:
        folder: dataset folder.
        teacher: the one that labelled it.
        sample: states to label again.
        seed: chooses them.

    Raises:
        UserError: damage, another teacher, or labels that differ by more than the codec's error.
    """
    dataset = open_checked(Path(folder))
    identity = dataset.identity
    if identity.teacher != teacher.info.fingerprint:
        raise UserError(
            f"{folder} was labelled by {dataset.teacher_name} ({identity.teacher[:12]}), not by "
            f"{teacher.info.name} ({teacher.info.fingerprint[:12]}); name the right one with --teacher"
        )
    _check_ranges(dataset, teacher)
    if draws_at_play(teacher.net):
        note = "no labels compared: the teacher draws noise at play"
        return Verdict(len(dataset), len(dataset.shards), 0, None, None, None, note)
    if not identity.same_eyes:
        note = f"no labels compared: the teacher saw preset {identity.teacher_preset}, recorded is {identity.preset}"
        return Verdict(len(dataset), len(dataset.shards), 0, None, None, None, note)
    labeller = Labeller.of(teacher, identity, torch.device("cpu"))
    drawn = generator("verify", seed)
    index = np.sort(drawn.permutation(len(dataset))[:sample])
    logits, value = labeller.say(dataset.stacks(index))
    logit_error = _difference(logits.numpy(), dataset.logits[index])
    value_error = None
    if value is not None and dataset.value is not None:
        value_error = _difference(value.numpy(), dataset.value[index])
    carrying = np.flatnonzero(dataset.carries)
    carrying = index if len(carrying) == len(dataset) else np.sort(drawn.permutation(carrying)[:sample])
    jacobian_error = _derivatives_off(dataset, labeller, carrying) if dataset.has_jacobian else None
    verdict = Verdict(len(dataset), len(dataset.shards), len(index), logit_error, value_error, jacobian_error)
    _judge(folder, verdict, identity.codec)
    return verdict


def _check_ranges(dataset: Dataset, teacher: Teacher) -> None:
    """Labels are finite (``Dataset`` has seen to that); actions are those of the game, and logits are one for each."""
    count, width = teacher.info.num_actions, dataset.logits.shape[1]
    if width != count:
        raise UserError(f"{dataset.folder} has {width} logits a state, but {teacher.info.name} has {count} actions")
    wrong = np.flatnonzero((dataset.action < 0) | (dataset.action >= count))
    if len(wrong):
        raise UserError(
            f"{dataset.folder}: state {wrong[0]} has action {dataset.action[wrong[0]]}, not one of 0..{count - 1}; it "
            "is damaged, so restore it from a copy"
        )


def _derivatives_off(dataset: Dataset, labeller: Labeller, index: npt.NDArray[np.int64]) -> float:
    """Relative error of the stored derivatives of some states."""
    v = None if dataset.v is None else torch.from_numpy(dataset.v[dataset.rows_of(index)])
    rows = labeller.derive(dataset.stacks(index), v)[3]
    assert rows is not None
    stored = dataset.jacobian(index)
    return _relative_error(rows.numpy(), stored.codes.astype(np.float32) * stored.scale[..., None])


def _difference(fresh: npt.NDArray[np.float32], stored: npt.NDArray[np.float32]) -> float:
    return float(np.abs(fresh - stored).max() / max(1.0, float(np.abs(fresh).max())))


def _relative_error(fresh: npt.NDArray[np.float32], stored: npt.NDArray[np.float32]) -> float:
    return float(np.linalg.norm(stored - fresh) / max(float(np.linalg.norm(fresh)), 1e-30))


def _judge(folder: str | Path, verdict: Verdict, codec: str) -> None:
    for error in (verdict.logit_error, verdict.value_error):
        if error is not None and not error <= TOLERANCE:  # NaN fails too
            raise UserError(
                f"{folder}: stored logits or values differ from the teacher's by up to {100 * error:.2g} % of the "
                "largest; the observations or labels are not what the teacher saw"
            )
    found, allowed = verdict.jacobian_error, RELATIVE_ERROR[codec]
    if found is not None and not found <= allowed:
        raise UserError(
            f"{folder}: stored derivatives are {found:.1%} off the teacher's, "
            f"more than {codec} explains ({allowed:.1%})"
        )
