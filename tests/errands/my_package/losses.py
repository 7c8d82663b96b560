"""A term of one's own: the policies' likeliest actions should be as likely."""

from torch import Tensor

from distill.api import Seen, Term


class Peak(Term):
    def loss(self, seen: Seen) -> Tensor:
        student, teacher = (logits.softmax(-1).amax(-1) for logits in (seen.student, seen.teacher))
        return (student - teacher).square()
