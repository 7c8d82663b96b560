"""Games of the Arcade Learning Environment: names, actions and reference scores."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from distill.errors import UserError, nearest

# Random and human scores: Wang et al. 2016 (Dueling networks, arXiv 1511.06581), table 2,
# 30 no-op starts, the figures behind "human-normalised score" in the field.
REFERENCE_SCORES: dict[str, tuple[float, float]] = {
    "alien": (227.8, 7127.7),
    "amidar": (5.8, 1719.5),
    "assault": (222.4, 742.0),
    "asterix": (210.0, 8503.3),
    "asteroids": (719.1, 47388.7),
    "atlantis": (12850.0, 29028.1),
    "bank_heist": (14.2, 753.1),
    "battle_zone": (2360.0, 37187.5),
    "beam_rider": (363.9, 16926.5),
    "berzerk": (123.7, 2630.4),
    "bowling": (23.1, 160.7),
    "boxing": (0.1, 12.1),
    "breakout": (1.7, 30.5),
    "centipede": (2090.9, 12017.0),
    "chopper_command": (811.0, 7387.8),
    "crazy_climber": (10780.5, 35829.4),
    "defender": (2874.5, 18688.9),
    "demon_attack": (152.1, 1971.0),
    "double_dunk": (-18.6, -16.4),
    "enduro": (0.0, 860.5),
    "fishing_derby": (-91.7, -38.7),
    "freeway": (0.0, 29.6),
    "frostbite": (65.2, 4334.7),
    "gopher": (257.6, 2412.5),
    "gravitar": (173.0, 3351.4),
    "hero": (1027.0, 30826.4),
    "ice_hockey": (-11.2, 0.9),
    "jamesbond": (29.0, 302.8),
    "kangaroo": (52.0, 3035.0),
    "krull": (1598.0, 2665.5),
    "kung_fu_master": (258.5, 22736.3),
    "montezuma_revenge": (0.0, 4753.3),
    "ms_pacman": (307.3, 6951.6),
    "name_this_game": (2292.3, 8049.0),
    "phoenix": (761.4, 7242.6),
    "pitfall": (-229.4, 6463.7),
    "pong": (-20.7, 14.6),
    "private_eye": (24.9, 69571.3),
    "qbert": (163.9, 13455.0),
    "riverraid": (1338.5, 17118.0),
    "road_runner": (11.5, 7845.0),
    "robotank": (2.2, 11.9),
    "seaquest": (68.4, 42054.7),
    "skiing": (-17098.1, -4336.9),
    "solaris": (1236.3, 12326.7),
    "space_invaders": (148.0, 1668.7),
    "star_gunner": (664.0, 10250.0),
    "surround": (-10.0, 6.5),
    "tennis": (-23.8, -8.3),
    "time_pilot": (3568.0, 5229.2),
    "tutankham": (11.4, 167.6),
    "up_n_down": (533.4, 11693.2),
    "venture": (0.0, 1187.5),
    "video_pinball": (16256.9, 17667.9),
    "wizard_of_wor": (563.5, 4756.5),
    "yars_revenge": (3092.9, 54576.9),
    "zaxxon": (32.5, 9173.3),
}

# Actions that do the same, by name: which of them is most likely does not matter. tests/envs/test_games.py checks
# them with the emulator, over the four frames of a step. In the bundled teachers' play (3,000 states, Space
# Invaders 1,500) they differ as follows.
# Pong: FIRE does nothing but in the very step in which the ball meets the paddle, where it makes the ball
# return two to three times as fast: 1.4 % of the states.
# Breakout: FIRE serves. The presets serve by script, so only the step in which a ball is lost is left, where
# FIRE serves the next one before the script does: 0.2 % of the states.
# Space Invaders has no such actions: FIRE changes something in 13 % of the states, too many to call it the same.
# Assault, Gopher and Q*bert: measured on random play only, 1,200 states or more each, where they never differ.
MERGED_ACTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "assault": (("NOOP", "FIRE"),),
    "breakout": (("NOOP", "FIRE"),),
    "gopher": (("NOOP", "UP"), ("FIRE", "UPFIRE")),
    "pong": (("NOOP", "FIRE"), ("RIGHT", "RIGHTFIRE"), ("LEFT", "LEFTFIRE")),
    "qbert": (("NOOP", "FIRE"),),
}


@dataclass(frozen=True)
class GameInfo:
    """What the emulator says of a game."""

    game: str
    """ROM name in snake_case, such as ``space_invaders``."""
    actions: tuple[str, ...]
    """Meanings of the minimal action set, in the order of the policy's logits."""
    screen: tuple[int, int]
    """Screen height and width in pixels; the height is not always 210."""
    rom_md5: str
    """MD5 of the ROM file."""
    start_frames: int
    """Frames the emulator plays by itself to get a new game going (mostly 0; 134 in name_this_game)."""


# ALE can only run these with two players; loading one ends the whole process.
TWO_PLAYER_ONLY = frozenset({"combat", "joust", "maze_craze", "warlords"})


@functools.cache
def known_games() -> tuple[str, ...]:
    """Names of every single-player ROM that ale-py ships."""
    from ale_py import roms

    return tuple(sorted(set(roms.get_all_rom_ids()) - TWO_PLAYER_ONLY))


def canonical_game(name: str) -> str:
    """Return the ROM name for ``pong``, ``Pong``, ``PongNoFrameskip-v4`` or ``ALE/Pong-v5``.

    Raises:
        UserError: the game is unknown; the message names the nearest one.
    """
    bare = re.sub(r"^ALE/", "", name.strip())
    bare = re.sub(r"-v\d+$", "", bare)
    bare = re.sub(r"(NoFrameskip|Deterministic)$", "", bare)
    key = bare.replace("_", "").replace("-", "").replace(" ", "").lower()
    for game in known_games():
        if game.replace("_", "") == key:
            return game
    if key in (game.replace("_", "") for game in TWO_PLAYER_ONLY):
        raise UserError(f"unknown game {name!r} (it is for two players only, and agents here play alone)")
    near = nearest(bare.lower(), known_games()) or "; name one of ALE's, such as pong or ALE/Breakout-v5"
    raise UserError(f"unknown game {name!r}{near}")


@functools.cache
def game_info(game: str) -> GameInfo:
    """Ask the emulator for the actions, screen size and ROM checksum of ``game`` (canonical name)."""
    import hashlib
    from pathlib import Path

    import ale_py
    from ale_py import roms

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    path = roms.get_rom_path(game)
    if path is None:
        raise UserError(f"ale-py has no ROM named {game!r}; reinstall ale-py")
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)  # else double_dunk takes a random time to start
    ale.loadROM(path)
    height, width = ale.getScreenDims()
    return GameInfo(
        game=game,
        actions=tuple(action.name for action in ale.getMinimalActionSet()),
        screen=(int(height), int(width)),
        rom_md5=hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest(),
        start_frames=ale.getEpisodeFrameNumber(),
    )


@functools.cache
def merged_actions(game: str) -> tuple[tuple[int, ...], ...]:
    """Groups of actions that do the same, by their place in the minimal action set; an action in none is alone.

    They do the same in nearly every state, not in all: ``MERGED_ACTIONS`` says where not. Empty for
    games that nobody has looked at.
    """
    groups = MERGED_ACTIONS.get(game, ())
    return tuple(tuple(game_info(game).actions.index(name) for name in group) for group in groups)


def env_id(game: str) -> str:
    """The Gymnasium id whose dynamics we use, such as ``PongNoFrameskip-v4``."""
    return "".join(part.capitalize() for part in game.split("_")) + "NoFrameskip-v4"


def human_normalized(game: str, score: float) -> float | None:
    """(score - random) / (human - random), or None where no reference is published."""
    if game not in REFERENCE_SCORES:
        return None
    random, human = REFERENCE_SCORES[game]
    return (score - random) / (human - random)
