from __future__ import annotations

from pathlib import Path

import pytest

from distill.agents.reference import Reference, on_card, random_score, reference
from distill.cli.command import main
from distill.envs.games import REFERENCE_SCORES
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.system.files import sha256
from teachers.load import load_teacher

FLAGS = {"setting": "--x.teacher_score", "asking": "--x.share"}


def test_shares_are_above_random_play() -> None:
    known = Reference(-20.7, 19.3)
    assert [known.share(score) for score in (-20.7, -0.7, 39.3)] == pytest.approx([0, 0.5, 1.5])
    assert known.score(0.5) == pytest.approx(-0.7)


def test_the_card_is_asked_for_the_right_protocol_and_preset(other_pong_zip: Path, tmp_path: Path) -> None:
    """Whatever is first on it; a mixture has none, though its parts have one each."""
    assert on_card("pong", "sb3") == 19.56
    assert on_card("pong", "async-rl") is None
    assert on_card("mixture:pong,pong", "sb3") is None
    agent = tmp_path / "pong-own.zip"
    agent.write_bytes(other_pong_zip.read_bytes())
    entries = "{protocol: machado, preset: sb3, mean: 1}, {preset: sb3, mean: 2}, {protocol: zoo, preset: sb3, mean: 3}"
    agent.with_suffix(".md").write_text(f"---\ngame: pong\nsha256: {sha256(agent)}\nscores: [{entries}]\n---\n")
    assert on_card(str(agent), "sb3") == 3


@pytest.mark.parametrize(
    "scores", ["5", "[19.8]", "{mean: 3}", "[{protocol: zoo}]", "[{mean: .nan}]", "[{mean: '3'}]", "[{mean: true}]"]
)
def test_scores_on_a_card_that_are_none(
    other_pong_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], scores: str
) -> None:
    agent = tmp_path / "pong-own.zip"
    agent.write_bytes(other_pong_zip.read_bytes())
    agent.with_suffix(".md").write_text(f"---\nscores: {scores}\n---\n")
    with pytest.raises(UserError, match="the scores on its card are not a list of such as"):
        on_card(str(agent), "sb3")
    assert main(["info", str(agent)]) == 1
    assert "the scores on its card are not a list" in " ".join(capsys.readouterr().err.split())


def test_a_score_that_nothing_tells_or_that_is_too_low() -> None:
    pong, sb3 = load_teacher("pong").info, get_preset("sb3")
    assert reference(pong, sb3, 1, None, **FLAGS) == Reference(-20.7, 19.56)
    with pytest.raises(UserError, match=r"score, -21, is not above random play's, -20\.7, .*leave --x\.share out"):
        reference(pong, sb3, 1, -21.0, **FLAGS)
    both = load_teacher("mixture:pong,pong").info
    with pytest.raises(UserError, match=r"no card says what teacher mixture:pong,pong scores .* --x\.teacher_score"):
        reference(both, sb3, 1, None, **FLAGS)
    assert reference(both, sb3, 1, 10.0, **FLAGS).teacher == 10


def test_random_play_is_measured_where_nobody_published_it(monkeypatch: pytest.MonkeyPatch) -> None:
    published = REFERENCE_SCORES["breakout"][0]
    monkeypatch.delitem(REFERENCE_SCORES, "breakout")
    assert random_score("breakout", get_preset("sb3"), 1) == pytest.approx(published, abs=1)
