"""A term that keeps the student's policy from being surer than it needs to be."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from distill.losses.term import Seen, Term


class Entropy(Term):
    """Minus the entropy of the student's policy in nats: to minimise it is to act more at random."""

    def loss(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        log_probs = F.log_softmax(seen.student, -1)
        return (log_probs.exp() * log_probs).sum(-1)


TERM = Entropy
