"""Packages of others that add presets, networks, formats, ... by registering them when they are imported."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

from distill.system.registry import import_module

VARIABLE = "DISTILL_PLUGINS"
"""Comma-separated modules, installed or in the working directory."""
GROUP = "distill.plugins"
"""Entry points of installed packages."""


def load_plugins() -> None:
    """Import them all.

    Raises:
        UserError: one is not there, or fails.
    """
    for name in os.environ.get(VARIABLE, "").split(","):
        if name.strip():
            import_module(name.strip(), VARIABLE)
    for point in entry_points(group=GROUP):
        import_module(point.module, f"entry point {point.name!r} of {GROUP}")
