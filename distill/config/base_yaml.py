"""configs/base.yaml, made from the settings themselves: ``python -m distill.config.base_yaml > configs/base.yaml``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from typing import Any, get_type_hints

from distill.config.config import Config
from distill.system.settings import Section

HEAD = """\
# distill collect --config configs/base.yaml
#
# Every setting with its default. Copy what you change into a file of your own: files given later
# on the command line win (`--config a.yaml --config b.yaml`), and flags win over files.
"""


def documented(kind: type) -> dict[str, str]:
    """What the string behind each field of a class of settings says, base classes included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not (isinstance(base, type) and issubclass(base, Section)):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[field.target.id] = str(after.value.value)
    return found


def base_yaml() -> str:
    """The whole file."""
    own, sections = [], []
    hints, defaults = get_type_hints(Config), Config()
    for field in dataclasses.fields(Config):
        kind = hints[field.name]
        if isinstance(kind, type) and issubclass(kind, Section):
            lines = _lines(kind, getattr(defaults, field.name), "  ")
            sections.append("\n".join([f"# {kind.__doc__}", f"{field.name}:", *lines]))
        else:
            own += _lines(Config, defaults, "", field.name)
    return "\n".join([HEAD, *own, "", "\n\n".join(sections)]) + "\n"


def _lines(kind: type, defaults: Any, indent: str, only: str | None = None) -> list[str]:
    about = documented(kind)
    # A section's own fields come first, then those that it shares with others.
    fields = sorted(dataclasses.fields(kind), key=lambda field: field.name not in inspect.get_annotations(kind))
    names = [only] if only else [field.name for field in fields]
    return [f"{indent}{name}: {_value(getattr(defaults, name))}  # {about[name]}" for name in names]


def _value(value: Any) -> str:
    """As JSON, but with a point in every float: YAML takes 2e-05 for a text."""
    text = json.dumps(value)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


if __name__ == "__main__":
    print(base_yaml(), end="")
