"""What a JSON record must look like: one that was damaged, or edited by hand, is one sentence and no traceback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from distill.errors import UserError
from distill.system.ranges import is_number

Form: TypeAlias = "Mapping[str, Form] | list[Form] | Callable[[Any], bool]"
"""A test of a value; a list of a form its items have; or the forms of a record's fields, where ``name?`` may be
missing and ``*`` is any other."""
LARGEST = 2**48
number = is_number


def text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def count(value: Any) -> bool:
    """A whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def optional(form: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Null, or a value of that form."""
    return lambda value: value is None or form(value)


def check_shape(path: Path, what: str, record: Any, form: Form) -> None:
    """Compare a record with its form.

    Args:
        path: where it was read from.
        what: what it is, for the error.
        record: its content.
        form: what it must be.

    Raises:
        UserError: naming the first field that is missing or cannot be what it should.
    """
    wrong = _misfit(record, form, "")
    if wrong is not None:
        raise UserError(f"{path} is damaged: {wrong}; restore this {what} from a copy")


def _misfit(value: Any, form: Form, name: str) -> str | None:
    """What is wrong, as a clause; None where all is right."""
    if callable(form):
        return None if form(value) else f"its {name!r} cannot be {str(value)[:40]!r}"
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"its {name!r} is no list"
        found = (_misfit(item, form[0], f"{name}.{place}") for place, item in enumerate(value))
        return next((wrong for wrong in found if wrong), None)
    if not isinstance(value, dict):
        return f"its {name!r} has no fields" if name else "it has no fields"
    inside = f"{name}." if name else ""
    missing = [field for field in form if field != "*" and not field.endswith("?") and field not in value]
    if missing:
        return f"it has no {inside + missing[0]!r}"
    for field, part in value.items():
        known = next((name for name in (field, f"{field}?", "*") if name in form), None)
        wrong = None if known is None else _misfit(part, form[known], inside + field)
        if wrong:
            return wrong
    return None
