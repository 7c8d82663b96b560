"""Gymnasium's Atari ids and rl-zoo's settings: which game they name, and what they make the emulator do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from distill.envs.games import canonical_game
from distill.errors import UserError

ENV_ID = re.compile(r"(?:ALE[/_-])?([A-Z][A-Za-z0-9]*?)(-ram)?(NoFrameskip|Deterministic)?-v(\d+)(?![A-Za-z0-9])")
WRAPPER = "AtariWrapper"
USUAL = {  # AtariWrapper's arguments that the agent sees, and their values in the presets
    "noop_max": 30, "frame_skip": 4, "screen_size": 84, "terminal_on_life_loss": True, "action_repeat_probability": 0.0,
}  # fmt: skip
UNSEEN = ("clip_reward",)
VEC_UNSEEN = ("VecMonitor", "VecCheckNan", "VecVideoRecorder", "VecTransposeImage")
"""Wrappers of vectors of environments that change nothing that the agent sees."""
EMULATOR = {  # arguments of the emulator's environment, likewise
    "repeat_action_probability": 0.0, "full_action_space": False, "mode": None, "difficulty": None, "frameskip": 1,
    "obs_type": "rgb",
}  # fmt: skip


def find_env_ids(text: str) -> list[tuple[str, str]]:
    """(id, game) of every Atari id in ``text``, such as a file's name."""
    found = []
    for match in ENV_ID.finditer(text):
        # ``ppo-Pong-v5`` has its id behind words; ``SpaceInvaders`` must not be found inside of ``XSpaceInvaders``.
        if match.start() and text[match.start() - 1].isalnum():
            continue
        game = game_called(match[1])
        if game is not None:
            found.append((match[0], game))
    return found


def run_env_id(name: str) -> str | None:
    """The id that one of rl-zoo's run folders, ``PongNoFrameskip-v4_1``, is named after."""
    match = re.fullmatch(r"(.+-v\d+)(?:_\d+)?", name)
    return match[1] if match and find_env_ids(match[1]) else None


def game_called(name: str) -> str | None:
    """Canonical game, or None where no game has that name."""
    try:
        return canonical_game(name)
    except UserError:
        return None


def objection_to_id(env: str) -> str | None:
    """What the emulator of a full id does that the presets do not; None for ``PongNoFrameskip-v4`` and bare names."""
    match = ENV_ID.fullmatch(env)
    if match is None or game_called(match[1]) is None:
        return None
    _, ram, frames, version = match.groups()
    if ram:
        return "shows the emulator's memory instead of the screen"
    if env.startswith("ALE") or version == "5":
        return "has sticky actions (0.25), and a frame skip of 4 under the wrapper's own"
    sticky = " and sticky actions (0.25)" if version == "0" else ""
    if frames == "Deterministic":
        return f"has a frame skip of 4 under the wrapper's own{sticky}"
    if frames is None and version in ("0", "4"):
        return f"has a random frame skip of 2 to 4 under the wrapper's own{sticky}"
    return "has sticky actions (0.25)" if sticky else None


def plain_emulator(settings: Mapping[str, Any]) -> bool:
    """True where ``env_kwargs`` turn off an id's own frame skip and sticky actions."""
    kwargs = settings.get("env_kwargs")
    return isinstance(kwargs, dict) and (kwargs.get("frameskip"), kwargs.get("repeat_action_probability")) == (1, 0)


def objections(settings: Mapping[str, Any]) -> list[str]:
    """What settings (args.yml, config.yml, a card) say that the presets do not do, as ``field value``."""
    found = []
    for key in ("env", "env_id", "game"):
        why = objection_to_id(str(settings.get(key) or ""))
        if why and not plain_emulator(settings):
            found.append(f"{key} {settings[key]}, which {why}")
    stack = settings.get("frame_stack")
    if stack is not None and stack != 4:
        found.append(f"frame_stack {stack}, not 4")
    if "env_wrapper" in settings:
        found += _wrapper_objections(settings["env_wrapper"])
    for name, _ in _calls(settings.get("vec_env_wrapper") or []):
        if name.rpartition(".")[2] not in VEC_UNSEEN:
            found.append(f"vec_env_wrapper {name}, which may change what the agent sees")
    if settings.get("normalize") not in (None, False) and not _only_rewards(settings):
        found.append(f"normalize {settings['normalize']}, which scales what the agent sees by running statistics")
    found += _differences("env_kwargs", settings.get("env_kwargs"), EMULATOR, ("render_mode",))
    overrides = settings.get("hyperparams")  # rl-zoo's flag of that name
    return found + (objections(overrides) if isinstance(overrides, dict) else [])


def _only_rewards(settings: Mapping[str, Any]) -> bool:
    """True where VecNormalize leaves alone what the agent sees; rl-zoo writes its arguments as text or dictionaries."""
    arguments = f"{settings['normalize']} {settings.get('normalize_kwargs')}"
    return re.search(r"norm_obs\W+False", arguments) is not None


def _wrapper_objections(wrapper: Any) -> list[str]:
    found: list[str] = []
    for name, kwargs in _calls(wrapper):
        if name.rpartition(".")[2] != WRAPPER:
            found.append(f"env_wrapper {name}, not {WRAPPER}")
        else:
            found += _differences(f"env_wrapper {WRAPPER}", kwargs, USUAL, UNSEEN)
    return found


def _calls(wrapper: Any) -> Iterator[tuple[str, Any]]:
    """(name, arguments): rl-zoo takes a name, a list of names, or dictionaries from a name to arguments."""
    for item in wrapper if isinstance(wrapper, list) else [wrapper]:
        for name, kwargs in (item if isinstance(item, dict) else {str(item): None}).items():
            yield str(name), kwargs


def _differences(what: str, kwargs: Any, usual: Mapping[str, Any], unseen: tuple[str, ...]) -> list[str]:
    if not isinstance(kwargs, dict):
        return [] if kwargs in (None, "None", "{}") else [f"{what} {kwargs}"]
    return [
        f"{what} with {key} {value}" + (f", not {usual[key]}" if usual.get(key) is not None else "")
        for key, value in kwargs.items()
        if key not in unseen and not (key in usual and value == usual[key])
    ]
