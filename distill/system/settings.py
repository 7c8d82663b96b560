"""A group of settings: its fields, what they may be, and folders' names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from distill.errors import UserError
from distill.system.files import at_home
from distill.system.ranges import Range, check_ranges, check_types
from distill.system.stores import is_store

S = TypeVar("S", bound="Section")


@dataclass(frozen=True)
class Section:
    """Settings that belong together; a field may be a section again.

    A section knows its own rules: the ranges of its numbers, which fields name a file or folder, and ``check`` for
    what concerns several of them.
    """

    RANGES: ClassVar[Mapping[str, Range]] = {}
    """By field; null and words, such as auto, are left alone."""
    CHOICES: ClassVar[Mapping[str, Callable[[], Iterable[str]]]] = {}
    """By field: all names that it may have, such as those of a registry."""
    PLACES: ClassVar[tuple[str, ...]] = ()
    """Fields that name a file or folder."""
    NEEDS: ClassVar[Mapping[str, str]] = {}
    """By field: what it would be passed over without, as ``behaviour=epsilon``; ``adversary``: any but its default."""

    def check(self) -> None:
        """Refuse, with a UserError, what single fields do not tell."""


def check_settings(settings: Section, above: str = "") -> None:
    """Check types and ranges of all fields, sections in it included.

    Args:
        settings: what to check.
        above: its dotted name, with a dot.

    Raises:
        UserError: the first setting that cannot work, by its name on the command line.
    """
    if not above:
        check_types(settings)
    check_ranges(settings, settings.RANGES, above)
    for name, names in settings.CHOICES.items():
        value, allowed = getattr(settings, name), [*names()]
        require(value in allowed, f"--{above}{name}", value, f"one of {allowed}")
    for name in settings.PLACES:
        # An empty name would be the working directory.
        value = getattr(settings, name)
        good = value is None or (value.strip() != "" and value.isprintable())
        require(good, f"--{above}{name}", repr(value), "the name of a file or folder")
        if name == "out" and above != "collect." and is_store(value):
            raise UserError(f"--{above}out must be a folder here; `distill push` sends it to {value} afterwards")
    for name, need in settings.NEEDS.items():
        if _given(settings, name) and not _given(settings, *need.split("=")):
            raise UserError(f"--{above}{name} is of --{above}{need}; add that, or leave it out")
    for field in fields(settings):
        inner = getattr(settings, field.name)
        if isinstance(inner, Section):
            check_settings(inner, f"{above}{field.name}.")
    settings.check()


def _given(settings: Section, name: str, *value: str) -> bool:
    """Whether a field has this value, as YAML writes it; without one, any but its default."""
    now = getattr(settings, name)
    return str(now).lower() in value if value else now != getattr(type(settings), name)


def bare(settings: S) -> S:
    """The same settings without NumPy's numbers and strings, which are Python's too, but which no file can hold."""
    return replace(settings, **{field.name: _bare(getattr(settings, field.name)) for field in fields(settings)})


def _bare(value: Any) -> Any:
    if isinstance(value, Section):
        return bare(value)
    if isinstance(value, dict):
        return {_bare(key): _bare(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_bare(item) for item in value)
    return next((kind(value) for kind in (float, str) if isinstance(value, kind)), value)


def part(settings: Section, kind: type[S]) -> S:
    """The fields of ``settings`` that another class of settings has, too, as one of that class."""
    return kind(**{field.name: getattr(settings, field.name) for field in fields(kind)})


def with_values(settings: S, values: Mapping[str, Any]) -> S:
    """The same settings but for some, by dotted name, unchecked: ``{"seed": 2, "train.steps": 100}``."""
    for name, value in values.items():
        section, _, field = name.rpartition(".")
        new: Any = replace(getattr(settings, section), **{field: value}) if section else value
        settings = replace(settings, **{section or field: new})
    return settings


def changed(section: Section) -> list[str]:
    """Names of the section's fields that are not at their defaults."""
    usual = vars(type(section)())
    return [name for name, value in vars(section).items() if value != usual[name]]


def require(holds: bool, flag: str, value: object, want: str) -> None:
    """Raise a UserError that names the flag and what it must be, unless it holds."""
    if not holds:
        raise UserError(f"{flag} must be {want}, got {value}")


def fill(template: str, **values: object) -> Path:
    """Fill ``{env}``, ``{student}``, ``{objective}``, ``{seed}``, ``{time}`` in a folder name.

    Raises:
        UserError: another name in braces, or a brace alone.
    """
    try:
        return at_home(template.format(**values))
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in values)
        raise UserError(f"cannot fill in the folder name {template!r}; in braces it may have only {known}") from error
