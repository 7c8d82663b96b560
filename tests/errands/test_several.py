"""A user's student of several games, by the public library: one trunk, two datasets in one stream, two folders."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.fixtures.errands import PLAY, Distill, papers

Program = Callable[..., "subprocess.Popen[str]"]
GAMES = {"pong": 6, "breakout": 4}


@pytest.fixture
def words(pong: str, breakout: str) -> tuple[str, ...]:
    return (f"pong={pong}", f"breakout={breakout}")


def weights(folder: Path, game: str) -> dict[str, Tensor]:
    return load_file(folder / game / "student" / "model.safetensors")


def test_two_games_are_learned_by_one_trunk(program: Program, home: Path, words: tuple[str, ...]) -> None:
    process = program("my_package.several", "both", *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    one, other = (weights(home / "both", game) for game in GAMES)
    assert {name for name in one if one[name].shape == other[name].shape} == {name for name in one if "trunk" in name}
    assert all(one[name].equal(other[name]) for name in one if "trunk" in name)
    for game, actions in GAMES.items():
        first, *_, last = re.findall(rf"step \d+: {game} (\S+)", said)
        assert float(last) < 0.96 * float(first), "each is learned"
        told = papers(home / "both" / game)
        assert (told["game"], told["num_actions"], told["teacher_name"]) == (game, actions, game)
        assert told["metrics"]["val_jacobian_cosine"] is not None


def test_each_is_evaluated_on_its_own_game(distill: Distill, home: Path) -> None:
    for game in GAMES:
        distill(
            "evaluate", f"--env={game}", f"--evaluate.agents=[mine=both/{game}]", *PLAY,
            f"--evaluate.data={game}", "--evaluate.val_states=40", f"--evaluate.out=scores-{game}",
        )  # fmt: skip
        record = json.loads((home / f"scores-{game}" / "scores.json").read_text())
        assert record["game"] == game
        assert record["agents"]["mine"]["val_kl"] == pytest.approx(papers(home / "both" / game)["metrics"]["val_kl"])
    refused = distill("evaluate", "--env=pong", "--evaluate.agents=[mine=both/breakout]", fails=True)
    assert "student both/breakout plays breakout, not pong" in refused


def test_a_stopped_one_goes_on_to_the_bit(program: Program, home: Path, words: tuple[str, ...]) -> None:
    process = program("my_package.several", "stopped", *words)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("step 8: breakout"):
            process.terminate()
    assert process.wait() != 0
    assert "saved. The same command continues." in said
    assert not (home / "stopped" / "pong").exists()
    process = program("my_package.several", "stopped", *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert int(re.findall(r"step (\d+): pong", said)[0]) >= 8
    for game in GAMES:
        whole, stopped = weights(home / "both", game), weights(home / "stopped", game)
        assert all(whole[name].equal(stopped[name]) for name in whole)
