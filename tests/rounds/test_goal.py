"""When a student is good enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.config.config import Config
from distill.config.stages import rounds
from distill.envs.games import REFERENCE_SCORES
from distill.errors import UserError
from distill.figures.statistics import summarise
from distill.imitate.begin import Run
from distill.imitate.progress import LAST_GAMES, Progress
from distill.rounds.goal import Goal, make_goal
from distill.rounds.settings import RoundsConfig
from distill.students.folder import load_student

Quick = Callable[..., Config]


def test_the_lower_end_of_the_interval_counts() -> None:
    scores = np.random.default_rng(0).normal(10, 4, LAST_GAMES).tolist()
    lower, mean = summarise(scores).ci95[0], float(np.mean(scores))
    assert lower < mean - 1
    assert Goal(lower)(Progress(games=50, scores=scores))
    assert not Goal(lower + 0.01)(Progress(games=50, scores=scores))
    assert not Goal(lower)(Progress(games=LAST_GAMES - 1, scores=scores[1:])), "too few games"


def test_the_teachers_score_is_on_its_card_or_given(quick: Quick, tmp_path: Path) -> None:
    run = Run(quick(tmp_path))
    goal = make_goal(RoundsConfig(until_share=0.5), run)
    assert goal is not None
    assert goal.score == pytest.approx((19.56 - 20.7) / 2)
    goal = make_goal(RoundsConfig(until_share=0.5, teacher_score=10.7), run)
    assert goal is not None
    assert goal.score == pytest.approx(-5.0)
    assert make_goal(RoundsConfig(), run) is None
    with pytest.raises(UserError, match=r"score, -21, is not above random play's, -20\.7"):
        make_goal(RoundsConfig(until_share=0.5, teacher_score=-21.0), run)


def test_a_teacher_without_a_card(quick: Quick, tmp_path: Path, other_pong_zip: Path) -> None:
    run = Run(quick(tmp_path, teacher=str(other_pong_zip)))
    with pytest.raises(UserError, match=r"no card says what teacher .*zip scores .*; give its mean score"):
        make_goal(RoundsConfig(until_share=0.5), run)


@pytest.mark.parametrize("form", ["online", "rounds"])
def test_a_run_ends_once_it_is_good_enough(
    form: str, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if random play scored -10 in Breakout, where every student has at least 0."""
    monkeypatch.setitem(REFERENCE_SCORES, "breakout", (-10.0, 30.5))
    asked = {"form": form, "until_share": 0.01, "teacher_score": 0.0}
    asked |= {"count": 20, "states": 1000, "steps": 2} if form == "rounds" else {}
    fields = {"states": 20_000, "num_envs": 8, "teacher_share": 0.0, "teacher_share_until": 0.0}
    folder = rounds(quick(tmp_path / "run", env="breakout", imitate=fields, rounds=asked))
    assert f"in its last {LAST_GAMES} games" in capsys.readouterr().out
    assert load_student(folder).training.data.states < 15_000
