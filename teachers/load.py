"""``load_teacher``: one way to name an agent, whether bundled, on disk or on the hub."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.envs.presets import get_preset
from distill.errors import UserError, nearest
from distill.games import canonical_game, game_info
from distill.students.nets import count_parameters
from teachers.card import checked_card, read_card
from teachers.protocol import Teacher, TeacherInfo, fingerprint
from teachers.sb3 import LoadedPolicy, load_sb3_zip

PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class Source:
    """Where a teacher's file is and what its card says."""

    path: Path
    card: dict[str, Any]


def bundled_teachers() -> dict[str, Path]:
    """Bundled agents by file stem, such as ``pong-ppo``."""
    return {path.stem: path for path in sorted(PRETRAINED.glob("*.zip"))}


def load_teacher(name: str, *, game: str | None = None, preset: str | None = None, tau: float = 0.01) -> Teacher:
    """Load a frozen teacher.

    Args:
        name: a bundled name (``pong``, ``pong-ppo``), a path to an SB3 zip, or ``hf://org/repo``.
        game: the game to play; by default the one on the card or in the file name.
        preset: the preset to play on; by default the one on the card, else ``sb3``.
        tau: temperature for Q-value agents, logits = Q / tau (Rusu et al. 2016).

    Raises:
        UserError: the teacher cannot be found, read, or does not fit the game.
    """
    source = find_teacher(name)
    policy = load_sb3_zip(source.path, tau)
    chosen = _choose_game(name, source, game)
    _check_actions(name, policy, chosen)
    info = TeacherInfo(
        name=name,
        game=chosen,
        algorithm=str(source.card.get("algorithm") or policy.algorithm),
        preset=get_preset(preset or str(source.card.get("preset") or "sb3")).name,
        fingerprint=fingerprint(policy.state, *([] if policy.tau is None else [f"tau={policy.tau}"])),
        num_actions=policy.num_actions,
        parameters=count_parameters(policy.net),
        tau=policy.tau,
    )
    return Teacher(policy.net, info)


def find_teacher(name: str) -> Source:
    """Resolve a teacher's name to a file on disk and its card (empty where there is none).

    Raises:
        UserError: nothing has that name, or the file is not the one its card describes.
    """
    if name.startswith("hf://"):
        from teachers.hub import card_beside, fetch

        path = fetch(name)
        return Source(path, read_card(card_beside(path)))
    short_names: dict[str, Path] = {}
    for stem, path in bundled_teachers().items():
        short = stem.rsplit("-", 1)[0]
        for known in (stem, short, short.replace("-", "_")):
            short_names.setdefault(known, path)
    path = short_names.get(name, Path(os.path.expanduser(name)))
    if path.suffix != ".zip" and not path.is_file():
        raise UserError(
            f"unknown teacher {name!r}{nearest(name, short_names)}; give a path to a stable-baselines3 zip, "
            f"hf://org/repo, or one of: {', '.join(bundled_teachers())}"
        )
    return Source(path, checked_card(path, path.with_suffix(".md")))


def _choose_game(name: str, source: Source, asked: str | None) -> str:
    """The game asked for, else the card's, else the one in the file's name; a contradiction is refused."""
    on_card = source.card.get("game")
    stated = canonical_game(str(on_card)) if on_card else _game_in_name(source.path.stem)
    if asked is None:
        if stated is None:
            raise UserError(f"cannot tell which game {name} plays; name it with --env")
        return stated
    game = canonical_game(asked)
    if on_card and stated != game:
        raise UserError(f"teacher {name} plays {stated}, not {game}; choose another teacher or game")
    return game


def _game_in_name(stem: str) -> str | None:
    """The longest run of words that names one game: ``ppo-PongNoFrameskip-v4``, ``space-invaders-dagger``."""
    words = re.findall(r"[A-Za-z0-9]+", stem)
    for length in range(len(words), 0, -1):
        found = set()
        for start in range(len(words) - length + 1):
            with contextlib.suppress(UserError):
                found.add(canonical_game("_".join(words[start : start + length])))
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _check_actions(name: str, policy: LoadedPolicy, game: str) -> None:
    actions = game_info(game).actions
    if policy.num_actions != len(actions):
        raise UserError(
            f"teacher {name} chooses among {policy.num_actions} actions but {game} has {len(actions)}; "
            "it was trained on another game or action set"
        )
