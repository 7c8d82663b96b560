"""The ``distill`` command."""

from distill.cli.command import _cannot_write as _cannot_write
from distill.cli.command import main, parse

__all__ = ["main", "parse"]
