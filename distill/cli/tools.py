"""The small commands: ``distill info``, ``verify``, ``export``, ``push``, ``pull`` and ``configs``, a module each."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import NoReturn

from distill.errors import UserError


def run(command: str, words: Sequence[str]) -> int:
    """Run one of them, ``distill.cli.<command>``; returns the exit status.

    Such a module has ``arguments(parser)`` and ``run(args)``, and is loaded when it is asked for.
    """
    module = importlib.import_module(f"distill.cli.{command}")
    parser = _Parser(prog=f"distill {command}")
    module.arguments(parser)
    module.run(parser.parse_args(words))
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a misspelt command line, or an empty word on it, like any other bad input."""

    def parse_args(self, words: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """Arguments that are all given, by ``None``, or by a text that can be a name."""
        args = super().parse_args(words)
        for name, value in vars(args).items():
            if isinstance(value, str) and not (value.strip() and value.isprintable()):
                raise UserError(f"{name} must be a name, got {value!r}; see {self.prog} --help")
        return args

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")
