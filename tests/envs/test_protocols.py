from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from distill.envs.protocols import PROTOCOLS, get_protocol
from distill.errors import UserError
from distill.evaluate.settings import EvaluateConfig


@pytest.mark.parametrize(
    ("name", "greedy", "sticky"), [("zoo", False, 0.0), ("zoo-greedy", True, 0.0), ("machado", False, 0.25)]
)
def test_protocols(name: str, greedy: bool, sticky: float) -> None:
    protocol = get_protocol(name)
    assert (protocol.name, protocol.greedy, protocol.sticky) == (name, greedy, sticky)
    assert ("best action" if greedy else "sampled") in protocol.meaning


def test_the_command_line_offers_every_protocol() -> None:
    assert set(get_args(get_type_hints(EvaluateConfig)["protocol"])) == PROTOCOLS.keys()


def test_unknown_protocol_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown protocol 'zoo_greedy' \(did you mean 'zoo-greedy'\?\); known: zoo, "):
        get_protocol("zoo_greedy")
