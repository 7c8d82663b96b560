"""What can be refused is refused before any game, and games that were played are not lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.agents.names import PLAYING
from distill.config.config import Config
from distill.config.stages import evaluate
from distill.errors import UserError
from distill.evaluate import run
from distill.evaluate.kept import Kept, Played, Terms
from distill.system.alone import alone
from distill.system.files import write_json

TERMS = Terms("pong", "sb3", "zoo", 2, 2, 1)


@pytest.fixture
def two(make_config: Callable[..., Config], other_pong_zip: Path, tmp_path: Path) -> Config:
    """One game each of two agents."""
    agents = ["a=pong", f"b={other_pong_zip}"]
    return make_config(evaluate={"agents": agents, "games": 1, "num_envs": 1, "out": str(tmp_path / "scores")})


@pytest.fixture
def no_games(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(*args: object, **kwargs: object) -> None:
        raise AssertionError("a game was played")

    monkeypatch.setattr(run, "play", play)


@pytest.mark.usefixtures("no_games")
@pytest.mark.parametrize("blocked", ["scores", "", "scores/a", "scores/b.mp4"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_game(two: Config, tmp_path: Path, blocked: str) -> None:
    if blocked == "scores/b.mp4":
        pytest.importorskip("imageio_ffmpeg")
        (tmp_path / blocked).mkdir(parents=True)
        two = replace(two, evaluate=replace(two.evaluate, capture_video=True))
    elif blocked:
        (tmp_path / blocked).parent.mkdir(exist_ok=True)
        (tmp_path / blocked).write_text("mine")
    else:
        (tmp_path / "file").touch()
        two = replace(two, evaluate=replace(two.evaluate, out=str(tmp_path / "file" / "scores")))
    with pytest.raises(UserError, match=r"cannot write to|is a (file|folder), where"):
        evaluate(two)
    assert blocked in ("", "scores/b.mp4") or (tmp_path / blocked).read_text() == "mine"


@pytest.mark.usefixtures("no_games")
def test_a_file_system_that_cannot_be_written_is_refused(two: Config) -> None:
    out = "/proc/scores"
    with pytest.raises(UserError, match=f"cannot write to {out}: .*; choose another --evaluate.out"):
        evaluate(replace(two, evaluate=replace(two.evaluate, out=out)))


def test_an_interrupted_evaluation_goes_on_after_the_last_finished_agent(
    two: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, play = tmp_path / "scores", run.play
    whole = evaluate(replace(two, evaluate=replace(two.evaluate, out=str(tmp_path / "whole"))))
    left = [play]

    def interrupted(*args: Any, **options: Any) -> Any:
        if not left:
            raise KeyboardInterrupt
        return left.pop()(*args, **options)

    monkeypatch.setattr(run, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(two)
    assert {path.name for path in folder.iterdir()} == {PLAYING, "scores.partial.json"}
    left += [play]
    capsys.readouterr()
    record = evaluate(two)
    assert "a: its 1 games have been played" in capsys.readouterr().out
    assert left == [], "only the other agent has played"
    assert record["agents"] == whole["agents"]
    assert {path.name for path in folder.iterdir()} == {PLAYING, "scores.json", "a", "b"}


@pytest.mark.usefixtures("no_games")
def test_a_folder_where_another_process_plays_is_refused(two: Config, tmp_path: Path) -> None:
    with (
        alone(tmp_path / "scores", "--evaluate.out", PLAYING),
        pytest.raises(UserError, match=r"another process is at work in .*scores; wait for it or choose another --eval"),
    ):
        evaluate(two)


@pytest.mark.parametrize(
    "other", [replace(TERMS, seed=2), replace(TERMS, protocol="machado"), replace(TERMS, num_envs=1)]
)
def test_games_of_another_evaluation_are_not_taken_but_kept(tmp_path: Path, other: Terms) -> None:
    Kept(tmp_path, TERMS).add("f", Played([1.0, 2.0], [3, 4]))
    kept = Kept(tmp_path, other)
    assert kept.find("f") is None
    kept.add("g", Played([0.0, 0.0], [1, 1]))
    assert Kept(tmp_path, TERMS).find("f") == Played([1.0, 2.0], [3, 4])
    assert Kept(tmp_path, TERMS).find("g") is None
    Kept(tmp_path, TERMS).remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage", ['[{"terms"', "3", "[3]", '[{"terms": 1, "fingerprint": "f", "returns": [], "lengths": []}]']
)
def test_a_damaged_record_of_games_is_not_used(tmp_path: Path, damage: str) -> None:
    (tmp_path / "scores.partial.json").write_text(damage)
    assert Kept(tmp_path, TERMS).find("f") is None


@pytest.mark.parametrize("returns", [["x", 2.0], [None, 2.0], [[1], 2.0], [1.0, float("inf")], [1.0, 10**400]])
@pytest.mark.parametrize("name", ["returns", "lengths"])
def test_games_that_are_no_numbers_are_not_used(tmp_path: Path, name: str, returns: list[Any]) -> None:
    Kept(tmp_path, TERMS).add("f", Played([1.0, 2.0], [3, 4]))
    path = tmp_path / "scores.partial.json"
    entry = json.loads(path.read_text())[0]
    del entry["checksum"]  # as an earlier version wrote it
    path.write_text(json.dumps([{**entry, name: returns}]))
    assert Kept(tmp_path, TERMS).find("f") is None
    path.write_text(json.dumps([entry]))
    assert Kept(tmp_path, TERMS).find("f") == Played([1.0, 2.0], [3, 4])


def test_a_return_that_has_rotted_is_noticed_and_others_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("f", "g"):
        Kept(tmp_path, TERMS).add(name, Played([1.0, 2.0], [3, 4]))
    path = tmp_path / "scores.partial.json"
    path.write_text(path.read_text().replace("1.0", "9.0", 1))
    kept = Kept(tmp_path, TERMS)
    assert kept.find("f") is None
    assert kept.find("g") == Played([1.0, 2.0], [3, 4])
    assert "a damaged record of games is left out" in " ".join(capsys.readouterr().out.split())


def test_an_agent_with_too_few_games_plays_again(tmp_path: Path) -> None:
    Kept(tmp_path, TERMS).add("f", Played([1.0, 2.0], [3, 4]))
    path = tmp_path / "scores.partial.json"
    entries = json.loads(path.read_text())
    write_json(path, [{**entries[0], "returns": [1.0]}])
    assert Kept(tmp_path, TERMS).find("f") is None
    shutil.rmtree(tmp_path)
