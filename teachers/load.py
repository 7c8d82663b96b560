"""``load_teacher``: one way to name an agent, whether bundled, on disk, on the hub, or a student."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.envs.games import canonical_game, game_info
from distill.envs.presets import check_recorded, get_preset
from distill.errors import UserError
from distill.networks.nets import count_parameters
from distill.networks.weights import fingerprint
from distill.students.folder import is_student, load_student
from distill.system.files import sha256
from distill.task import Task
from teachers.by_path import file_of, is_path, made_by, teacher_at
from teachers.card import checked_card, read_card
from teachers.formats.format import LoadedPolicy, TeacherFormat, format_of
from teachers.formats.sb3 import FORMAT as SB3
from teachers.layouts import PRETRAINED, bundled_teachers, locate, short_names
from teachers.mixture import PREFIX, load_mixture, parts_of
from teachers.papers import Papers, game_in_name, read_papers
from teachers.protocol import Teacher, TeacherInfo

__all__ = ["PRETRAINED", "Source", "agent_game", "bundled_teachers", "find_teacher", "load_teacher"]


@dataclass(frozen=True)
class Source:
    """Where a teacher is and what is written about it."""

    path: Path
    """Its file, its unpacked folder, a student's folder, or the module that makes it."""
    card: dict[str, Any]
    """Front matter of its card."""
    papers: Papers
    """What card, names and settings say of its game."""


def load_teacher(
    name: str,
    *,
    game: str | None = None,
    preset: str | None = None,
    tau: float = 0.01,
    recorded: str | None = None,
) -> Teacher:
    """Load a frozen teacher.

    Args:
        name: a bundled name (``pong``, ``pong-ppo``), a path to an SB3 zip, an rl-zoo run folder, a student's run
            folder or zip, a file of any format that is known (docs/teachers.md), ``hf://org/repo``, or the dotted path
            of a callable that makes one, ``my_package.agents:load``; ``mixture:A,B`` is the mixture of several.
        game: the game to play; by default the one that its card, its names or its settings tell.
        preset: what it sees, whatever its papers say; by default the one on the card, else ``recorded``.
        tau: temperature for Q-value agents, logits = Q / tau (Rusu et al. 2016).
        recorded: what is recorded beside it and the user asked for, by default ``sb3``. A teacher whose papers tell of
            no preset, or of an environment that none plays, sees that.

    Raises:
        UserError: the teacher cannot be found, read, or does not fit the game.
    """
    asked = None if game is None else canonical_game(game)
    if name.startswith(PREFIX):
        return load_mixture(name, lambda one: load_teacher(one, game=game, preset=preset, tau=tau, recorded=recorded))
    if is_path(name):
        return teacher_at(name, game=asked, preset=preset, recorded=recorded)
    source = find_teacher(name)
    told = source.papers.game(name, asked)
    if asked is None and told is None:
        _read(source, tau)  # a file that is no agent at all is the greater trouble
        raise UserError(f"cannot tell which game {name} plays; name it with --env")
    if is_student(source.path):
        return _student(name, source.path, preset)
    chosen = asked or told[0]  # type: ignore[index]  # one of them is there
    policy = _read(source, tau)
    _check_actions(name, policy.num_actions, chosen)
    if preset is None and recorded is None:
        source.papers.check_preset(name)
    student = source.papers.student
    if student is not None and student.get("role") != "teacher":
        own: object = _same_preset(name, _task(student, policy.num_actions), preset)
    else:  # a teacher may be asked to see something else
        own = source.card.get("preset") or (student or {}).get("preset") or _form(source.path).preset
    info = TeacherInfo(
        name=name,
        game=chosen,
        algorithm=str(source.card.get("algorithm") or policy.algorithm),
        preset=_known_preset(name, own or recorded) if preset is None else get_preset(preset).name,
        fingerprint=_fingerprint(source.path, policy),
        num_actions=policy.num_actions,
        parameters=count_parameters(policy.net),
        tau=policy.tau,
    )
    return Teacher(policy.net, info)


def find_teacher(name: str) -> Source:
    """Resolve a teacher's name to a place on disk and what is written there (empty where there is nothing).

    Raises:
        UserError: nothing has that name, or the file is not the one its card describes.
    """
    if name.startswith(PREFIX):
        # The first stands for all; but its card says nothing of what they do together.
        return dataclasses.replace(find_teacher(parts_of(name)[0]), card={})
    if name.startswith("hf://"):
        from teachers.hub import card_beside, fetch

        path = fetch(name)
        card = read_card(card_beside(path))
        return Source(path, card, read_papers(path, card, name))
    if is_path(name):
        made = made_by(name)
        claims = ((canonical_game(made.info.game), "its Teacher"),) if isinstance(made, Teacher) else ()
        return Source(file_of(name), {}, Papers(claims))
    path = locate(name)
    if is_student(path):
        game = canonical_game(load_student(path).task.game)
        return Source(path, {}, Papers(((game, "its student.json"),)))
    card = checked_card(path, path / "README.md" if path.is_dir() else path.with_suffix(".md"))
    return Source(path, card, read_papers(path, card, name))


def agent_game(name: str) -> tuple[str, str] | None:
    """The game of an agent and who says so, without loading it; None where nothing tells.

    Raises:
        UserError: it cannot be found, or the evidence disagrees.
    """
    if name.startswith(PREFIX):
        return agent_game(parts_of(name)[0])
    if name.startswith("hf://"):  # its card is read when it is loaded; no download only to know the game
        for part in reversed(re.split("[/@]", name.removeprefix("hf://"))):
            if game := game_in_name(part.removesuffix(".zip")):
                return game, "its name"
    source = find_teacher(name)
    told = source.papers.game(name)
    if told is None and not is_path(name):
        _read(source)  # a file that is no agent at all is the greater trouble
    # A folder or a name without .zip may mean another file than the user thinks of.
    same = source.path.name == Path(name).name or name in short_names() or is_path(name)
    chosen = "" if same else source.path.name
    return told and (told[0], f"{chosen}, {told[1]}" if chosen else told[1])


def _form(path: Path) -> TeacherFormat:
    """The format of an agent; SB3's says what is wrong with a file that no format knows."""
    return format_of(path) or SB3


def _read(source: Source, tau: float = 0.01) -> LoadedPolicy:
    """The network of an agent that is no student's folder."""
    return _form(source.path).read(source.path, tau, source.card)


def _fingerprint(path: Path, policy: LoadedPolicy) -> str:
    """Of its tensors and temperature; an agent that has no tensors is known by its file, or by all in its folder."""
    marks = [] if policy.tau is None else [f"tau={policy.tau}"]
    if not policy.state:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        marks += [f"{file.relative_to(path)} {sha256(file)}" for file in files]
    return fingerprint(policy.state, *marks)


def _student(name: str, folder: Path, preset: str | None) -> Teacher:
    """A student that teaches."""
    student = load_student(folder)
    info = TeacherInfo(
        name=name,
        game=student.task.game,
        algorithm="student",
        preset=_same_preset(name, student.task, preset),
        fingerprint=student.fingerprint,
        num_actions=student.task.num_actions,
        parameters=count_parameters(student.net),
    )
    return Teacher(student.net, info)


def _task(zipped: Mapping[str, Any], num_actions: int) -> Task:
    """What a student plays and sees, as its zip tells."""
    game, preset, preset_hash = (str(zipped.get(name)) for name in ("game", "preset", "preset_hash"))
    return Task(game, preset, preset_hash, num_actions)


def _same_preset(name: str, task: Task, asked: str | None) -> str:
    """The preset of a student, which must still be what it was when the student learned."""
    check_recorded(f"student {name}", task.preset)
    task.refuse_other(task.but(preset=asked or task.preset), f"student {name}", "play it on its own preset")
    return task.preset


def _known_preset(name: str, told: object) -> str:
    """The preset on a card; ``sb3`` where it names none."""
    try:
        return get_preset(str(told or "sb3")).name
    except UserError as error:
        raise UserError(f"teacher {name}: its card names an {error}; correct it, or give --preset") from error


def _check_actions(name: str, count: int, game: str) -> None:
    actions = game_info(game).actions
    if count != len(actions):
        raise UserError(
            f"teacher {name} chooses among {count} actions but {game} has {len(actions)}; "
            "it was trained on another game or action set"
        )
