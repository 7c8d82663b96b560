"""What a setting's value may be: its type, from the dataclass that holds it, and its range."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from distill.errors import UserError

TOO_LARGE = 2**63
"""The first whole number that is no int64."""


def is_number(value: object) -> bool:
    """Whether a value from a file is a finite number; a whole one that no float can hold is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class Range:
    """Numbers that a setting may have. NaN and infinity are never among them.

    Args:
        text: what it must be, as in "must be positive".
        low: the least.
        high: the greatest.
        without: ends that it may not have.
    """

    text: str
    low: float = -math.inf
    high: float = math.inf
    without: tuple[float, ...] = ()

    def __contains__(self, value: float) -> bool:
        finite = -math.inf < value < math.inf  # NaN fails every comparison
        finite = finite and (isinstance(value, float) or abs(value) < TOO_LARGE)
        return finite and self.low <= value <= self.high and value not in self.without

    def check(self, flag: str, value: float) -> None:
        """Raise a UserError for ``value`` outside."""
        if value not in self:
            limit = ", and finite" if value == math.inf else ", and below 2^63" if value >= TOO_LARGE else ""
            text = self.text if self.text.endswith(limit) else self.text + limit
            raise UserError(f"{flag} must be {text}, got {value}")


POSITIVE = Range("positive", 0, without=(0,))
ZERO_OR_MORE = Range("zero or more", 0)
SHARE = Range("between 0 and 1", 0, 1)


def check_types(settings: object, above: str = "") -> None:
    """Compare every value with its field's type: None only where null is a value, no bool for a number.

    Args:
        settings: a dataclass; those in it are checked, too.
        above: its dotted name, with a dot.

    Raises:
        UserError: naming the first setting that does not fit.
    """
    hints = get_type_hints(type(settings))
    for field in fields(settings):  # type: ignore[arg-type]
        value, hint, name = getattr(settings, field.name), hints[field.name], above + field.name
        if is_dataclass(hint):
            if not isinstance(value, hint):  # type: ignore[arg-type]
                raise UserError(f"{name!r} is a group of settings, not a value; got {value!r}")
            check_types(value, f"{name}.")
        elif not _fits(value, hint):
            _name_entry(value, hint, name)
            got = "null" if value is None else value if isinstance(value, str) else repr(value)
            raise UserError(f"--{name} must be {_kind(hint)}, got {got}")


def _name_entry(value: object, hint: Any, name: str) -> None:
    """Raise a UserError that names the entry of a table that does not fit, where there is one."""
    if get_origin(hint) is dict and isinstance(value, Mapping):
        kind = get_args(hint)[1]
        for key, item in value.items():
            if not _fits(item, kind):
                raise UserError(f"--{name}: {key} must be {_kind(kind)}, got {item!r}")


def check_ranges(settings: object, ranges: Mapping[str, Range], above: str = "") -> None:
    """Compare numbers with their ranges, by field; null and words, such as auto, are left alone.

    Args:
        settings: a dataclass; of a list every number is compared.
        ranges: of its fields.
        above: its dotted name, with a dot.

    Raises:
        UserError: naming the first setting that is outside.
    """
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int | float):
                allowed.check(f"--{above}{name}", number)


def _fits(value: object, hint: Any) -> bool:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if kind is Literal:
        return isinstance(value, str) and value in inner
    if kind is list:
        return isinstance(value, list | tuple) and all(_fits(item, inner[0]) for item in value)
    if kind is tuple:
        same = isinstance(value, list | tuple) and len(value) == len(inner)
        return same and all(_fits(item, one) for item, one in zip(value, inner, strict=True))  # type: ignore[call-overload]
    if kind is dict:
        return isinstance(value, Mapping) and all(_fits(item, inner[1]) for item in value.values())
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def _kind(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_kind(one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return f"one of {list(get_args(hint))}"
    names = {NoneType: "null", int: "int", float: "float", str: "str", bool: "bool"}
    return names.get(hint) or str(hint).replace("typing.", "")
