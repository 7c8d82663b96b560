"""What stands in writing about an agent's game and environment, read before anything is played."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.envs.games import canonical_game
from distill.errors import UserError
from teachers.envs import find_env_ids, game_called, objection_to_id, objections, plain_emulator, run_env_id
from teachers.formats.format import format_of, without_ending
from teachers.plain_yaml import read_plain_yaml

SETTINGS = ("args.yml", "config.yml")
OWN_NAMES = ("its file name", "the name of the file that it links to")
ENVPOOL = "envpool"
"""In the names of CleanRL's scripts that play there: ppo_atari_envpool."""
LONGEST_NAME = 6
"""Words of a game's name; no game has more."""


@dataclass(frozen=True)
class Papers:
    """What an agent's card, names and settings say."""

    claims: tuple[tuple[str, str], ...] = ()
    """(game, who says so), surest first."""
    hint: tuple[str, str] | None = None
    """The same, of a folder that is called like a game and counts only where nothing else tells."""
    objections: tuple[str, ...] = ()
    """What its environment did that the presets do not do, each with who says so."""
    student: Mapping[str, Any] | None = None
    """Game and preset in the ``data`` of a student's zip."""

    def game(self, name: str, asked: str | None = None) -> tuple[str, str] | None:
        """The game that an agent plays and who says so; None where nothing tells.

        Args:
            name: what the user calls the agent, for messages.
            asked: canonical game that the user names.

        Raises:
            UserError: the evidence disagrees, among itself or with ``asked``.
        """
        told = self.claims or ((self.hint,) if self.hint else ())
        for game, where in told[1:]:
            if game != told[0][0]:
                raise UserError(
                    f"teacher {name}: {told[0][1]} says {told[0][0]}, but {where} says {game}; correct or rename one"
                )
        if not told:
            return None
        game, where = told[0]
        if asked is not None and game != asked:
            why = f"({where} says so)"
            raise UserError(f"teacher {name} plays {game}, not {asked}; choose another teacher or game {why}")
        return game, where

    def check_preset(self, name: str) -> None:
        """Refuse an agent that was trained in an environment that no preset plays."""
        if self.objections:
            raise UserError(
                f"teacher {name} was trained in another environment than the presets play: {self.objections[0]}; "
                "--preset=sb3 plays it on that preset all the same"
            )


def read_papers(path: Path, card: Mapping[str, Any], given: str) -> Papers:
    """Everything in writing about the agent at ``path``.

    Args:
        path: its file or unpacked folder.
        card: front matter of its card.
        given: the path as the user wrote it, whose folders may be called like a game.

    Raises:
        UserError: a settings file beside it that cannot be read, or one or a card that names no game we know.
    """
    claims: list[tuple[str, str]] = []
    found: list[str] = []
    form = format_of(path)
    own = form.told(path) if form is not None else {}
    student = own.get("student")
    if student:
        claims.append((str(student["game"]), "its data"))
    beside = path if path.is_dir() else path.parent
    inside = _settings_of(path, beside)
    settings = [(own, "the file itself"), (card, "its card"), *_settings([beside, *inside])]
    for content, where in settings:
        try:
            claims += [(game, where) for game in _games(content)]
        except UserError as error:
            raise UserError(f"teacher {given}: {where} names an {error}; correct it") from error
        found += [f"{text} ({where})" for text in objections(content)]
    names = [(without_ending(path.name), OWN_NAMES[0])]
    if path.is_symlink():
        names.append((without_ending(path.resolve().name), OWN_NAMES[1]))
    around = [*list(path.absolute().parents)[:3], *inside]
    places = [*names, *((folder.name, f"the folder {folder.name}") for folder in around)]
    for text, where in places:
        envs = find_env_ids(text)
        if ENVPOOL in text.lower() and (envs or where in OWN_NAMES):
            found.append(f"EnvPool, whose frames, no-ops and lost lives are its own ({where})")
        games = {game for _, game in envs} | (_games_in_name(text) if where in OWN_NAMES else set())
        if len(games) == 1:  # a name that tells two games tells none
            claims.append((games.pop(), where))
        for env, _ in envs:
            why = objection_to_id(env)
            if why and not any(plain_emulator(content) for content, _ in settings):
                found.append(f"{env} {why} ({where})")
    return Papers(tuple(claims), _hint(given), tuple(found), student)


def _settings_of(path: Path, folder: Path) -> list[Path]:
    """Where rl-zoo put an agent's settings, ``X-v4_1/X-v4``; such a folder beside anything else is another agent's."""
    envs = {run_env_id(folder.resolve().name), run_env_id(without_ending(path.name))} - {None}
    return sorted(folder / str(env) for env in envs if (folder / str(env)).is_dir())


def game_in_name(stem: str) -> str | None:
    """The one game that words name: ``ppo-PongNoFrameskip-v4``, ``space-invaders-ppo``; None for none or several."""
    games = _games_in_name(stem)
    return games.pop() if len(games) == 1 else None


def _games_in_name(stem: str) -> set[str]:
    """Every game that a run of words names; a word counts once, in the longest run (``ms-pacman`` is not Pacman)."""
    words = re.findall(r"[A-Za-z0-9]+", stem)
    games, taken = set(), [False] * len(words)
    for length in range(min(len(words), LONGEST_NAME), 0, -1):
        for start in range(len(words) - length + 1):
            game = game_called("_".join(words[start : start + length]))
            if game is not None and not any(taken[start : start + length]):
                games.add(game)
                taken[start : start + length] = [True] * length
    return games


def _settings(folders: list[Path]) -> Iterator[tuple[dict[str, Any], str]]:
    """rl-zoo's settings, beside the agent or in the folder there that is called like an environment."""
    for folder in folders:
        for name in SETTINGS:
            if (folder / name).is_file():
                yield read_plain_yaml(folder / name), str(folder / name)


def _games(content: Mapping[str, Any]) -> Iterator[str]:
    """Games in settings or in a card's front matter, ours or the hub's."""
    if content.get("game"):
        yield canonical_game(str(content["game"]))
    for text in (str(content.get(key) or "") for key in ("env", "env_id")):
        bare = game_called(text)
        yield from [bare] if bare else (game for _, game in find_env_ids(text))
    for text in _hub_names(content):
        yield from (game for _, game in find_env_ids(str(text or "")))


def _hub_names(card: Mapping[str, Any]) -> list[Any]:
    """Environments in the hub's own fields: ``tags`` and ``model-index``."""
    tags, index = card.get("tags"), card.get("model-index")
    names: list[Any] = list(tags) if isinstance(tags, list) else []
    for model in index if isinstance(index, list) else []:
        results = model.get("results") if isinstance(model, dict) else None
        for result in results if isinstance(results, list) else []:
            dataset = result.get("dataset") if isinstance(result, dict) else None
            names += [dataset.get("name")] if isinstance(dataset, dict) else []
    return names


def _hint(given: str) -> tuple[str, str] | None:
    """A game that one of the two folders around an agent is called after, in the path as it was given."""
    for folder in list(Path(given).parents)[:2]:
        game = game_called(folder.name) if folder.name else None
        if game is not None:
            return game, f"the folder {folder.name}"
    return None
