"""All settings together, and how they are read.

What was a module of this name gives its names still: import them from ``distill.api``.
"""

from importlib import import_module
from typing import Any

HOMES = {"Config": "distill.config.config", "fill": "distill.system.settings"}


def __getattr__(name: str) -> Any:
    home = "distill.api" if name.endswith("Config") and name not in HOMES else HOMES.get(name)
    found = home and getattr(import_module(home), name, None)
    if not found:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
