"""What a run begins with, whatever its form: who plays and who teaches, what they see, and where it is kept."""

from __future__ import annotations

import contextlib
import copy
import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from distill.imitate.fresh import Fresh
from distill.imitate.keeper import Keeper
from distill.imitate.progress import Progress, open_run, refuse_other_teacher, restore
from distill.imitate.schedule import learning_rate
from distill.imitate.settings import ImitateRun
from distill.imitate.setup import check_settings, check_zip, make_objective, make_student, student_preset
from distill.losses.sobolev import Objective
from distill.networks.nets import count_parameters
from distill.records.runs import how_to_go_on
from distill.records.student import read_student
from distill.students.folder import is_student
from distill.system.device import pick_device
from distill.system.progress import console
from distill.system.streams import seed_weights
from distill.train.network import network_text
from distill.train.saver import Kept
from teachers.load import load_teacher


class Run:
    """A student that learns from its own games; ``open`` gives it its folder, and what is kept there.

    Args:
        config: settings.

    Raises:
        UserError: an agent that cannot be used, or settings that do not go together.
    """

    folder: Path
    """The run's."""
    kept: Kept
    """What a checkpoint is made of."""
    resumed: bool
    """There was a checkpoint to go on from."""

    def __init__(self, config: ImitateRun) -> None:
        self.config, self.device = config, pick_device(config.device)
        self.teacher = load_teacher(
            config.teacher, game=config.env, tau=config.tau, preset=config.teacher_preset, recorded=config.preset
        )
        check_settings(config, self.teacher)
        self.preset = student_preset(config, self.teacher.info)
        seed_weights(config.seed)
        self.net = make_student(config, self.teacher).to(self.device)
        # Of a network that was used in training there may be no copy: some keep what has a gradient.
        self._copy = copy.deepcopy(self.net).eval()

    def copied(self) -> nn.Module:
        """The student as it is now, to play with while it learns; always the same copy, brought up to date."""
        with torch.no_grad():
            for mine, theirs in zip(_tensors(self._copy), _tensors(self.net), strict=True):
                mine.copy_(theirs)
        return self._copy

    @property
    def progress(self) -> Progress:
        """Where it stands."""
        return self.kept.progress  # type: ignore[no-any-return]

    def open(self, stack: contextlib.ExitStack) -> bool:
        """Begin it, or restore its last checkpoint; False where it is finished. ``stack`` holds its folder.

        Raises:
            UserError: its folder holds another run, a damaged one, or one that another process is at work on.
        """
        config, c = self.config, self.config.imitate
        self.folder, self.resumed = open_run(config, stack)
        if is_student(self.folder):
            papers = self.folder / "student" / "student.json"
            told = read_student(papers).training(papers)
            refuse_other_teacher(self.folder, told.teacher, self.teacher.info.fingerprint)
            check_zip(config, self.folder, None, over=True)
            console.print(f"{self.folder}: already trained; nothing to do")
            return False
        optimizer = torch.optim.Adam(self.net.parameters(), lr=0.0, fused=True)
        again = how_to_go_on(c.out, self.folder, "--imitate.out", newest=c.resume)
        progress = Progress(teacher=self.teacher.info.fingerprint, run=uuid.uuid4().hex)
        self.kept = Kept(self.net, optimizer, progress, config.to_dict(), again)
        if self.resumed:
            restore(self.folder, self.device, self.kept)
        check_zip(config, self.folder, self.net if self.progress.step else None, over=False)
        return True

    def describe(self) -> None:
        """Print what is about to happen."""
        config, teacher = self.config, self.teacher.info
        console.print(
            f"{network_text(config.student)} ({count_parameters(self.net):,} parameters) learns from {teacher.name}, "
            f"which sees preset {teacher.preset}, in {config.imitate.num_envs} games on preset {self.preset.name}, "
            f"seed {config.seed}"
        )


def _tensors(net: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(net.parameters(), net.buffers())  # a state_dict leaves out some buffers


@dataclass
class Parts:
    """What a form is given besides; ``distill imitate`` goes without most of it."""

    objective: Objective
    """What is minimised."""
    rate: Callable[[float], float]
    """Learning rate, of the share of the budget that is used up."""
    early_rate: float | None = None
    """Its peak while lambda is large, for the papers; None where that is the only one."""
    fresh: Fresh | None = None
    """Gives the teacher's derivatives at states of the ring."""
    keeper: Keeper | None = None
    """Keeps the states as a data set."""
    enough: Callable[[Progress], bool] = lambda progress: False
    """Whether the student is good enough for the run to end."""


def plain_parts(config: ImitateRun) -> Parts:
    """Those of ``distill imitate``."""
    c = config.imitate
    return Parts(make_objective(config), lambda used: learning_rate(used, c.learning_rate, c.final_learning_rate))
