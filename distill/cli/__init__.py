"""The ``distill`` command."""

from distill.cli.command import main, parse

__all__ = ["main", "parse"]
