"""Terms that ``objective.terms`` can name, besides the divergence and the Sobolev term.

One more is one more file in this folder that ends in a ``TERM``, or a class in a package of anyone's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from distill.errors import UserError, first_line
from distill.losses.term import Term
from distill.system.registry import Registry


def _is_term(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Term)


TERMS: Registry[type[Term]] = Registry(
    "term", "a class derived from distill.api.Term", _is_term, own=("distill.losses", "TERM")
)
TAKEN = ("total", "divergence", "jacobian", "kl")
"""Names of what is there already, in losses and in logs."""


def register_term(name: str, kind: type[Term]) -> type[Term]:
    """Let ``objective.terms`` name ``kind``.

    Raises:
        UserError: the name is taken, or ``kind`` is no term.
    """
    return TERMS.register(name, kind)


def make_terms(weights: Mapping[str, float]) -> tuple[Term, ...]:
    """The terms of ``objective.terms``: weights by registered name or dotted path.

    Raises:
        UserError: there is no such term, it takes no weight, or has a name that cannot stand beside the others.
    """
    terms: list[Term] = []
    for name, weight in weights.items():
        kind = TERMS.find(name)
        taken = [*TAKEN, *(term.name for term in terms)]
        if kind.name in taken or not re.fullmatch(r"\w+", kind.name):
            raise UserError(
                f"--objective.terms: {name} calls itself {kind.name!r}; give its class another `name` of letters, "
                f"digits and _, not {', '.join(taken)}"
            )
        try:
            terms.append(kind(weight))
        except Exception as error:
            raise UserError(
                f"--objective.terms: {name} cannot be made with weight {weight:g} ({type(error).__name__}: "
                f"{first_line(error)}); its class takes the weight and nothing else"
            ) from error
    return tuple(terms)
