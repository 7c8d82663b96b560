"""Things by name that anyone can add to, or name by a dotted path: presets, networks, formats, ...

A command line looks names up in a registry, and there its choices and the nearest known name come from. What stands in
no registry is named by where it is, ``package.module:attribute``, in an installed package or in one that lies in the
working directory.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from distill.errors import UserError, first_line, lookup, nearest

T = TypeVar("T")
DOTTED = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<attribute>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")


class Registry(Mapping[str, T]):
    """A mapping from names to things of one kind, in the order of their registration.

    Args:
        what: one of them in a word or two, for messages: ``preset``.
        kind: what such a thing has to be, likewise: ``a Preset``.
        fits: whether something is one.
        own: the toolkit's own: a package and an attribute. Each of its modules that has the attribute has such a thing
            there, with a ``name``, or a tuple of them. They are imported when something is first asked of the registry.
    """

    def __init__(
        self, what: str, kind: str, fits: Callable[[object], bool], own: tuple[str, str] | None = None
    ) -> None:
        self.what, self.kind, self._fits, self._own = what, kind, fits, own
        self._things: dict[str, T] = {}

    def register(self, name: str, thing: T) -> T:
        """Add ``thing`` under ``name``, and return it.

        Raises:
            UserError: a name that is taken, or that could be taken for a dotted path; a thing of another kind.
        """
        if not name.strip() or not name.isprintable() or ":" in name:
            raise UserError(f"a {self.what} needs a name without a colon, got {name!r}")
        if name in self._all():
            raise UserError(f"there is a {self.what} {name!r} already; register this one under another name")
        self._check(name, thing)
        self._things[name] = thing
        return thing

    def find(self, name: str) -> T:
        """The thing of this name, or at this dotted path.

        Raises:
            UserError: nothing has that name, or the path does not lead to a thing of this kind.
        """
        if not is_dotted(name):
            return lookup(self.what, self, name)
        thing = import_dotted(self.what, name)
        self._check(name, thing)
        return thing  # type: ignore[return-value]  # of the right kind, as far as can be told

    def _check(self, name: str, thing: object) -> None:
        if not self._fits(thing):
            raise UserError(f"{self.what} {name!r} must be {self.kind}, but is a {type(thing).__name__}")

    def _all(self) -> dict[str, T]:
        own, self._own = self._own, None
        if own is not None:
            package, attribute = importlib.import_module(own[0]), own[1]
            for module in pkgutil.iter_modules(package.__path__):
                thing: Any = getattr(importlib.import_module(f"{own[0]}.{module.name}"), attribute, None)
                for one in () if thing is None else thing if isinstance(thing, tuple) else (thing,):
                    self.register(one.name, one)
        return self._things

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def is_dotted(name: str) -> bool:
    """True for ``package.module:attribute``; ``hf://org/repo``, ``a/b:c`` and bare names are none."""
    return DOTTED.fullmatch(name) is not None


def import_dotted(what: str, path: str) -> object:
    """What a dotted path leads to.

    Args:
        what: what it should be, for messages.
        path: ``package.module:attribute``, which ``is_dotted`` accepts.

    Raises:
        UserError: no such module or attribute, or a module that fails when it is imported.
    """
    match = DOTTED.fullmatch(path)
    if match is None:
        raise UserError(f"{what} {path!r} is not of the form package.module:attribute")
    found: object = import_module(match["module"], f"{what} {path!r}")
    for name in match["attribute"].split("."):
        if not hasattr(found, name):
            where = getattr(found, "__name__", path)
            raise UserError(f"{what} {path!r}: {where} has no {name!r}{nearest(name, dir(found))}")
        found = getattr(found, name)
    return found


def import_module(module: str, wanted_by: str) -> object:
    """Import an installed module, or one in the working directory.

    Raises:
        UserError: there is none, or it fails.
    """
    # For good, and last: what the module imports later is found too, and nothing installed is shadowed.
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent is not None and f"{module}.".startswith(f"{absent}."):
            raise UserError(
                f"{wanted_by}: there is no module {absent}; install the package that has it, or run where it lies"
            ) from error
        raise UserError(
            f"{wanted_by}: importing {module} fails ({type(error).__name__}: {first_line(error)}); mend it"
        ) from error
