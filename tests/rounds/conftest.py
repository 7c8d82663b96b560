"""A very small student that learns Pong from two games side by side, on its own states."""

from __future__ import annotations

from typing import Any

from tests.imitate.conftest import quick

__all__ = ["quick"]

ROUNDS: dict[str, Any] = {"form": "rounds", "count": 3, "states": 160, "steps": 12, "shard_states": 96}
DERIVATIVES: dict[str, Any] = {"jacobian_share": 0.25, "jacobian_until": 0.5}
