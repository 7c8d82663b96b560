"""Which command made a file, with which versions: kept in every run, dataset and score."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "ale-py", "gymnasium", "stable-baselines3", "tensorboard", "safetensors")


def command_line() -> str:
    """The command that started this process, as one would type it."""
    return " ".join((_program(), *(shlex.quote(word) for word in sys.argv[1:])))


def _program() -> str:
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    if module is not None:  # python -m
        name = str(module.name).removesuffix(".__main__")
        return "distill" if name == "distill.cli" else f"python -m {name}"
    path = Path(sys.argv[0])
    return f"python {os.path.relpath(path)}" if path.suffix == ".py" else path.name


def versions() -> dict[str, Any]:
    """Python, cores and libraries."""
    found = {library: version(library) for library in LIBRARIES}
    return {"python": platform.python_version(), "cores": os.cpu_count(), **found}
