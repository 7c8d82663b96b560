"""What collection and training on several machines cost, from a few measured numbers: ``python docs/cost.py``.

Prices are assumptions, not quotes: of a cloud's spot machines and its object store. Change them here.
"""

from __future__ import annotations

CORES, CORE_HOUR = 16, 0.015
"""Cores of a machine; dollars an hour for each, spot."""
STATES = 500
"""States that a core plays and labels a second, a sixteenth of them with derivatives (2 cores: 1,000 to 2,000)."""
BYTES = 1_900
"""Of a state of Pong or Breakout in a shard so collected; richer screens take more."""
STORE_GB_MONTH, PUT, OBJECTS = 0.023, 5e-6, 3
"""Dollars for a gigabyte and month, for an object put, and objects of a shard; a listing costs as much as a put."""
SHARD, WANTED, MONTHS = 4_096, 10_000_000, 1
"""States of a shard, states wanted at least, and months that they are kept."""
FIXED_S = 120
"""Until a machine has started, and has played its first shard."""


def row(machines: int) -> str:
    """Collecting ten million states, or a million for each machine where that is more."""
    states = max(WANTED, 1_000_000 * machines)
    hours = (states / (machines * CORES * STATES) + FIXED_S) / 3600
    size = states * BYTES / 1e9
    computing = hours * machines * CORES * CORE_HOUR
    storing = size * STORE_GB_MONTH * MONTHS + states / SHARD * OBJECTS * PUT
    speed = states / hours / 3600
    told = [f"{machines:,}", f"{states / 1e6:,.0f}", f"{hours:.2f}", f"{speed:,.0f}", f"{size:,.0f}"]
    return f"| {' | '.join([*told, f'{computing:,.2f}', f'{storing:,.2f}'])} |"


def table() -> str:
    """In Markdown."""
    head = "| machines | million states | hours | states/s | GB | computing, $ | storing, $ a month |"
    return "\n".join([head, "| --: " * 7 + "|", *map(row, (1, 10, 100, 1_000))])


if __name__ == "__main__":
    print(table())
