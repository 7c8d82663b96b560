"""Modules under the names that they had in version 0.1: they still import, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "distill.cells": "distill.sweep.cells",
    "distill.collect.actor": "distill.agents.actor",
    "distill.crew": "distill.system.crew",
    "distill.dataset.verify": "distill.collect.verify",
    "distill.device": "distill.system.device",
    "distill.evaluate.agents": "distill.agents.agents",
    "distill.evaluate.by_game": "distill.figures.by_game",
    "distill.evaluate.episodes": "distill.agents.episodes",
    "distill.evaluate.fidelity": "distill.figures.fidelity",
    "distill.evaluate.figures": "distill.report.plots",
    "distill.evaluate.headline": "distill.report.headline",
    "distill.evaluate.names": "distill.agents.names",
    "distill.evaluate.page": "distill.report.page",
    "distill.evaluate.papers": "distill.report.papers",
    "distill.evaluate.protocol": "distill.envs.protocols",
    "distill.evaluate.report": "distill.report.run",
    "distill.evaluate.saliency": "distill.figures.saliency",
    "distill.evaluate.scores": "distill.records.scores",
    "distill.evaluate.shares": "distill.figures.shares",
    "distill.evaluate.statistics": "distill.figures.statistics",
    "distill.evaluate.video": "distill.agents.video",
    "distill.files": "distill.system.files",
    "distill.games": "distill.envs.games",
    "distill.grid": "distill.sweep.grid",
    "distill.losses.engine": "distill.engine.engine",
    "distill.losses.folding": "distill.engine.folding",
    "distill.losses.layers": "distill.networks.layers",
    "distill.losses.pixels": "distill.engine.pixels",
    "distill.losses.stage": "distill.engine.stage",
    "distill.progress": "distill.system.progress",
    "distill.provenance": "distill.system.provenance",
    "distill.ranges": "distill.system.ranges",
    "distill.runtime": "distill.system.runtime",
    "distill.seal": "distill.records.seal",
    "distill.settings": "distill.system.parser",
    "distill.shape": "distill.records.shape",
    "distill.signals": "distill.system.signals",
    "distill.streams": "distill.system.streams",
    "distill.students.export": "distill.cli.export",
    "distill.students.nets": "distill.networks.nets",
    "distill.sweep_data": "distill.sweep.data",
    "distill.sweep_test_set": "distill.sweep.test_set",
    "distill.tools": "distill.cli.tools",
    "distill.train.captured": "distill.engine.captured",
    "distill.train.data": "distill.batches.loader",
    "distill.train.noise": "distill.batches.noise",
    "distill.train.source": "distill.batches.source",
    "distill.train.step": "distill.engine.step",
    "distill.validate": "distill.config.validate",
    "distill.which_game": "distill.config.which_game",
    "distill.yaml_text": "distill.system.yaml_text",
    "teachers.archive": "teachers.formats.archive",
    "teachers.described": "teachers.formats.described",
    "teachers.safetensors_agent": "teachers.formats.safetensors_agent",
    "teachers.sb3": "teachers.formats.sb3",
}
"""Old name and new one; gone with the version after next."""


class Moved(MetaPathFinder, Loader):
    """Gives the module at its new place where an old name is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``MetaPathFinder``."""
        return importlib.util.spec_from_loader(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module at its new place."""
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} has moved to {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run; the module keeps its own name and place."""
        module.__spec__ = self._spec


def install() -> None:
    """Let old names import."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
