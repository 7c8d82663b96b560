from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ale_py
import cv2
import numpy as np
import pytest
import torch
from ale_py import roms

from distill.envs.games import (
    MERGED_ACTIONS,
    REFERENCE_SCORES,
    canonical_game,
    env_id,
    game_info,
    human_normalized,
    known_games,
    merged_actions,
)
from distill.errors import UserError
from teachers.load import load_teacher


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
    with pytest.raises(UserError, match=r"unknown game 'zzzzzz'; name one of ALE's, such as pong"):
        canonical_game("zzzzzz")


def test_every_reference_score_belongs_to_a_game_that_runs() -> None:
    assert set(REFERENCE_SCORES) <= set(known_games())
    assert all(human > random for random, human in REFERENCE_SCORES.values())


def test_two_player_games_are_unknown() -> None:
    # The emulator ends the whole process when one of them is loaded.
    with pytest.raises(UserError, match=r"unknown game 'MazeCraze-v4' \(it is for two players only"):
        canonical_game("MazeCraze-v4")


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


def test_merged_actions_by_their_place() -> None:
    assert merged_actions("pong") == ((0, 1), (2, 4), (3, 5))
    assert merged_actions("breakout") == ((0, 1),)
    assert merged_actions("space_invaders") == ()


@pytest.mark.parametrize("game", MERGED_ACTIONS)
def test_no_action_is_merged_twice(game: str) -> None:
    merged = [action for group in MERGED_ACTIONS[game] for action in group]
    assert len(set(merged)) == len(merged)
    assert all(len(group) > 1 for group in MERGED_ACTIONS[game])


class Play:
    """Preset sb3 on a bare emulator, whose state can be kept: ``states`` yields now and then.

    Args:
        game: canonical name.
        teacher: plays the bundled teacher, else at random, an action for some steps at a time.
    """

    def __init__(self, game: str, *, teacher: bool) -> None:
        self.ale: Any = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(roms.get_rom_path(game))
        self.actions = list(self.ale.getMinimalActionSet())
        self._net = load_teacher(game).net if teacher else None
        self._rng = np.random.default_rng(0)
        self._stack = np.zeros((4, 84, 84), np.uint8)
        self._action = 0

    def states(self, count: int) -> Iterator[Any]:
        """So many, four steps apart on average; each is played on from where it was left."""
        self.ale.reset_game()
        self._serve()
        lives = self.ale.lives()
        while count:
            if self.ale.game_over():
                self.ale.reset_game()
                self._serve()
            elif self.ale.lives() < lives:
                self._step(0)
                self._serve()
            lives = self.ale.lives()
            if self._rng.random() < 0.25:
                count -= 1
                state = self.ale.cloneState()
                yield state
                self.ale.restoreState(state)
            self._step(self._choose())

    def outcomes(self, state: Any) -> list[bytes]:
        """The four screens that follow each action."""
        seen = []
        for action in self.actions:
            self.ale.restoreState(state)
            seen.append(b"".join(self._screen(action) for _ in range(4)))
        return seen

    def _screen(self, action: Any) -> bytes:
        self.ale.act(action)
        return self.ale.getScreen().tobytes()  # type: ignore[no-any-return]

    def _serve(self) -> None:
        if "FIRE" in [action.name for action in self.actions]:
            self._step(1)
            self._step(2)
        self._stack[:3] = 0

    def _step(self, action: int) -> None:
        colours = []
        for _ in range(4):
            self.ale.act(self.actions[action])
            colours.append(self.ale.getScreenRGB())
        gray = cv2.cvtColor(np.maximum(colours[2], colours[3]), cv2.COLOR_RGB2GRAY)
        self._stack[:-1] = self._stack[1:]
        self._stack[-1] = cv2.resize(gray, (84, 84), interpolation=cv2.INTER_AREA)

    def _choose(self) -> int:
        if self._net is None:
            if self._rng.random() < 0.3:
                self._action = int(self._rng.integers(len(self.actions)))
            return self._action
        with torch.no_grad():
            logits = self._net(torch.from_numpy(self._stack[None]).float() / 255)[0]
        return int(np.argmax(logits.numpy() + self._rng.gumbel(size=len(logits))))


# Where merged actions differ after all, by the emulator's memory; in the other games they never do.
EXCEPTIONS: dict[str, Callable[[Any], bool]] = {
    "pong": lambda ram: bool(185 <= ram[49] <= 189),  # the ball is within a step of the right paddle
    "breakout": lambda ram: bool(ram[101] > 200),  # the ball is below the paddle
}


@pytest.mark.parametrize("game", MERGED_ACTIONS)
def test_merged_actions_do_the_same_in_the_emulator(game: str) -> None:
    """The same four screens, or nearly so where the comment at ``MERGED_ACTIONS`` says it; others differ at times."""
    play = Play(game, teacher=game == "pong")  # at random hardly any ball meets the paddle
    total, exceptions = 300, 0
    ever_differ = np.zeros((len(play.actions),) * 2, bool)
    for state in play.states(total):
        ram = play.ale.getRAM().copy()
        seen = play.outcomes(state)
        differ = np.array([[a != b for a in seen] for b in seen])
        ever_differ |= differ
        if any(differ[group[0], list(group)].any() for group in merged_actions(game)):
            assert game in EXCEPTIONS
            assert EXCEPTIONS[game](ram)
            exceptions += 1
    assert exceptions < 0.04 * total
    assert (exceptions > 0) == (game in EXCEPTIONS)
    group_of = {action: group for group in merged_actions(game) for action in group}
    for a, b in zip(*np.nonzero(~ever_differ), strict=True):
        assert a == b or b in group_of.get(a, ()), (play.actions[a], play.actions[b])
