"""Where no cluster answers, one sentence says so at once."""

from __future__ import annotations

import socket

import pytest

from distill.errors import UserError
from distill.system.ray_cluster import refuse_deaf


def test_an_address_where_nobody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            refuse_deaf(address)
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(UserError, match=rf"^nobody answers at {address} \(.*; start a Ray cluster"):
            refuse_deaf(address)


def test_names_that_ray_knows_pass() -> None:
    for address in ("auto", "local"):
        refuse_deaf(address)
