from __future__ import annotations

import pytest

from distill.errors import UserError
from distill.games import REFERENCE_SCORES, canonical_game, env_id, game_info, human_normalized, known_games


@pytest.mark.parametrize(
    "name", ["pong", "Pong", " pong ", "PongNoFrameskip-v4", "PongDeterministic-v4", "ALE/Pong-v5"]
)
def test_canonical_game_takes_every_spelling(name: str) -> None:
    assert canonical_game(name) == "pong"


@pytest.mark.parametrize("name", ["space_invaders", "SpaceInvaders", "space-invaders", "ALE/SpaceInvaders-v5"])
def test_canonical_game_joins_words(name: str) -> None:
    assert canonical_game(name) == "space_invaders"


@pytest.mark.parametrize("game", ["pong", "space_invaders", "ms_pacman"])
def test_env_id_is_a_name_too(game: str) -> None:
    assert canonical_game(env_id(game)) == game


@pytest.mark.parametrize(("name", "nearest"), [("breakot", "breakout"), ("SpaceInvader", "space_invaders")])
def test_unknown_game_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf"unknown game '{name}' \(did you mean '{nearest}'\?\)"):
        canonical_game(name)


def test_unknown_game_far_from_any_suggests_nothing() -> None:
    with pytest.raises(UserError, match=r"unknown game 'zzzzzz'$"):
        canonical_game("zzzzzz")


def test_every_reference_score_belongs_to_a_game_that_runs() -> None:
    assert set(REFERENCE_SCORES) <= set(known_games())
    assert all(human > random for random, human in REFERENCE_SCORES.values())


def test_two_player_games_are_unknown() -> None:
    # The emulator ends the whole process when one of them is loaded.
    with pytest.raises(UserError, match="unknown game 'combat'"):
        canonical_game("combat")


@pytest.mark.slow
def test_every_known_game_loads() -> None:
    infos = [game_info(game) for game in known_games()]
    assert len(infos) > 95
    assert all(len(info.actions) >= 3 and info.screen[1] == 160 for info in infos)


def test_game_info_says_what_the_emulator_says() -> None:
    info = game_info("breakout")
    assert info.actions == ("NOOP", "FIRE", "RIGHT", "LEFT")
    assert info.screen == (210, 160)
    assert info.rom_md5 == "f34f08e5eb96e500e851a80be3277a56"
    assert (info.start_frames, game_info("name_this_game").start_frames) == (0, 134)


def test_human_normalized_score() -> None:
    assert human_normalized("pong", -20.7) == 0
    assert human_normalized("pong", 14.6) == 1
    assert human_normalized("adventure", 3.0) is None
