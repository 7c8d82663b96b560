"""Which game is meant: one table of evidence, so that no stage ever plays another game than its teacher's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from distill.config.config import Config
from distill.envs.games import canonical_game
from distill.errors import UserError
from distill.system.files import at_home

DEFAULT = "pong"


class Verdict(NamedTuple):
    """The game, and why."""

    game: str
    """Canonical name."""
    why: str
    """Such as ``from --teacher x.zip: its file name``."""


class Told(NamedTuple):
    """What one setting tells."""

    game: str
    """Canonical name."""
    subject: str
    """The beginning of a sentence that the game ends, such as ``teacher x.zip plays``."""
    why: str = ""
    """Who says so, where that is not plain."""


@dataclass(frozen=True)
class Clue:
    """A setting that may tell the game."""

    flag: str
    """Its name on the command line."""
    stages: tuple[str, ...]
    """Where it counts."""
    values: Callable[[Config], list[str]]
    """What the user gave; nothing where it has its default."""
    read: Callable[[str], Told | None]
    """What a value tells; None for nothing, UserError where it cannot be used."""


def which_game(config: Config, stage: str | None = None) -> Verdict:
    """The game that ``config`` means, from ``env`` and from what the other settings name.

    Args:
        config: settings; ``env`` may be empty.
        stage: its evidence counts, and must be there. By default that of all stages, as far as it is there, and only
            where ``env`` is empty: the stage that runs will look again.

    Raises:
        UserError: the evidence disagrees, with ``env`` or among itself; or an agent is named whose game nothing tells.
    """
    asked = canonical_game(config.env) if config.env else None
    if asked is not None and stage is None:
        return Verdict(asked, "from --env")
    found: list[tuple[Clue, str, Told]] = []
    silent: UserError | None = None
    for clue in CLUES:
        for value in clue.values(config) if stage is None or stage in clue.stages else ():
            try:
                told = clue.read(value)
            except UserError as error:  # whoever needs it says so again; it matters here if nothing else tells
                silent = silent or (error if stage else None)
                continue
            if told is not None:
                found.append((clue, value, told))
            else:
                silent = silent or UserError(f"cannot tell which game {value} plays; name it with --env")
    _refuse_contradictions(asked, found)
    if found:
        clue, value, told = found[0]
        return Verdict(told.game, f"from {clue.flag} {value}{told.why and f': {told.why}'}")
    if asked is None and silent is not None:
        raise silent
    return Verdict(asked, "from --env") if asked else Verdict(DEFAULT, "by default")


def _refuse_contradictions(asked: str | None, found: list[tuple[Clue, str, Told]]) -> None:
    for clue, _, told in found:
        first, _, other = found[0]
        if asked is not None and told.game != asked:
            why = f" ({told.why} says so)" if told.why else ""
            raise UserError(f"{told.subject} {told.game}, not {asked}; set --env or {clue.flag}{why}")
        if told.game != other.game:
            flags = " or ".join(dict.fromkeys((first.flag, clue.flag)))
            raise UserError(f"{other.subject} {other.game}, but {told.subject} {told.game}; change {flags}")


def _student(name: str) -> Told | None:
    from distill.students.folder import load_student
    from teachers.layouts import is_agent

    if not is_agent(name):
        load_student(name)  # says what is missing
    return _agent(name)


def _agent(name: str) -> Told | None:
    from distill.students.folder import is_student
    from teachers.load import agent_game

    told = agent_game(name)
    kind = "student" if is_student(at_home(name)) else "teacher"
    return told and Told(told[0], f"{kind} {name} plays", told[1])


def _dataset(folder: str) -> Told:
    from distill.dataset.schema import read_manifest

    return Told(read_manifest(at_home(folder)).identity.game, f"{folder} is of")


def _scores(path: str) -> Told:
    from distill.records.scores import read_scores

    return Told(canonical_game(read_scores(at_home(path)).game), f"{path} is of")


def _teacher(config: Config) -> list[str]:
    given = [] if config.teacher in ("", config.env) else [config.teacher]
    return given + _in_grid(config, "teacher")


def _actor(config: Config) -> list[str]:
    return [] if config.collect.actor == "teacher" else [config.collect.actor]


def _init(config: Config) -> list[str]:
    return _given(config.student.init) + _in_grid(config, "student.init")


def _data(config: Config) -> list[str]:
    return _given(config.train.data) + _in_grid(config, "train.data")


def _agents(names: Sequence[str]) -> list[str]:
    from distill.agents.names import RANDOM, TEACHER, check_commas, split_item

    check_commas(names)
    return [what for _, what in map(split_item, names) if what not in (TEACHER, RANDOM)]


def _given(folder: str | None) -> list[str]:
    """A path that does not depend on the game."""
    return [folder] if folder is not None and "{env" not in folder else []


def _in_grid(config: Config, name: str) -> list[str]:
    values: Any = config.sweep.grid.get(name, ())
    return [v for v in values if isinstance(v, str) and "{env" not in v] if isinstance(values, list) else []


CLUES = (
    Clue(
        "--teacher",
        ("collect", "train", "imitate", "rounds", "finetune", "sweep", "pbt", "shrink", "evaluate", "report", "attack"),
        _teacher,
        _agent,
    ),
    Clue("--collect.actor", ("collect",), _actor, _student),
    Clue("--student.init", ("train", "sweep", "pbt"), _init, _student),
    Clue("--imitate.init", ("imitate", "rounds"), lambda config: _given(config.imitate.init), _student),
    Clue("--finetune.init", ("finetune",), lambda config: _given(config.finetune.init), _agent),
    Clue("--train.data", ("train", "sweep", "pbt"), _data, _dataset),
    Clue("--train.data", ("shrink",), lambda config: _data(config) if config.shrink.by == "train" else [], _dataset),
    Clue("--evaluate.agents", ("evaluate",), lambda config: _agents(config.evaluate.agents), _agent),
    Clue("--attack.agents", ("attack",), lambda config: _agents(config.attack.agents), _agent),
    Clue("--attack.data", ("attack",), lambda config: _given(config.attack.data), _dataset),
    Clue("--report.scores", ("report",), lambda config: _given(config.report.scores), _scores),
)
