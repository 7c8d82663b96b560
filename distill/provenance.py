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
    program = Path(sys.argv[0]).name
    if program == "cli.py":  # python -m distill.cli
        program = "distill"
    return " ".join(shlex.quote(word) for word in (program, *sys.argv[1:]))


def versions() -> dict[str, Any]:
    """Python, cores and libraries."""
    found = {library: version(library) for library in LIBRARIES}
    return {"python": platform.python_version(), "cores": os.cpu_count(), **found}
