"""Records of rounds that have rotted, or lie where they do not belong, are refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.pbt.rounds import OF_ROUND, ROUND, Job, Round
from distill.train.settings import TrainRun

FIRST = Round("round-001__a", "", 1, 4, {"train.learning_rate": 0.01}, 0.5)
SECOND = Round("round-002__b", FIRST.run, 2, 8, {"train.learning_rate": 0.02}, 0.25)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for one in (FIRST, SECOND):
        OF_ROUND.write(tmp_path / one.run / ROUND, asdict(one))
    return Job(TrainRun(), tmp_path, (4, 8), str(tmp_path))


def test_rounds_are_read_as_they_were_written(job: Job) -> None:
    assert job.rounds() == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"val_kl": "abc"}, r"its 'val_kl' cannot be 'abc'"),
        ({"val_kl": None}, r"its 'val_kl' cannot be 'None'"),
        ({"val_kl": 10**400}, r"its 'val_kl' cannot be"),
        ({"settings": 5}, r"its 'settings' has no fields"),
        ({"settings": {"train.learning_rate": "x"}}, r"its 'settings.train.learning_rate' cannot be 'x'"),
        ({"number": "2"}, r"its 'number' cannot be '2'"),
        ({"run": 7}, r"its 'run' cannot be '7'"),
        ({"run": "round-002__c"}, r"is of round-002__c, not of the folder that it lies in"),
        ({"parent": "round-001__gone"}, r"goes on from round-001__gone, which is not there"),
    ],
)
def test_a_damaged_record_is_refused(job: Job, change: dict[str, Any], says: str) -> None:
    path = job.folder / SECOND.run / ROUND
    path.write_text(json.dumps(asdict(SECOND) | change))  # without a checksum, as earlier versions wrote it
    with pytest.raises(UserError, match=says):
        job.rounds()


def test_a_digit_that_has_rotted_is_noticed(job: Job) -> None:
    path = job.folder / SECOND.run / ROUND
    path.write_text(path.read_text().replace("0.25", "0.05"))
    with pytest.raises(UserError, match=r"does not match its own checksum: this record of a round is damaged"):
        job.rounds()
