"""A figure of one's own: how often an action is the student's second choice that is the teacher's first."""

from torch import Tensor

from distill.api import Figure, Outputs


def _flips(of: Outputs) -> Tensor:
    return (of.student.topk(2).indices[:, 1] == of.teacher.argmax(-1)).float()


flips = Figure("flips", "flips", "share of states whose best action is the student's second", _flips, form=".1%")
