"""Table of students on their teacher's first layer: figures on test games against students without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy import stats

from distill.sweep.grid import Row
from studies.atari.choose import METHODS, method
from studies.atari.plan import LAYERS, SEED, STATES, Scale
from studies.atari.ratios import Pair, ratio
from studies.common import markdown

PAIRS = {
    "KL": ((METHODS[0], "1"), (METHODS[0], "0")),
    "Sobolev": ((METHODS[1], "1"), (METHODS[1], "0")),
    "Sobolev with it, KL without": ((METHODS[1], "1"), (METHODS[0], "0")),
    "Sobolev and KL, both with it": ((METHODS[1], "1"), (METHODS[0], "1")),
}
"""What is compared with what: (method, layers) of each."""


def layers_table(rows: Sequence[Row], scale: Scale) -> str:
    """Geometric means over seeds and their ratio, at every percentage and over all."""
    lines = []
    for title, (one, other) in PAIRS.items():
        seeds: dict[str, list[Pair]] = {}
        for percentage in scale.percentages[::2]:
            upper, lower = (_rows(rows, kind, scale.share(percentage)) for kind in (one, other))
            pairs = {seed: (upper[seed], lower[seed]) for seed in sorted(upper.keys() & lower.keys())}
            if pairs:
                lines.append([f"{percentage} %, {title}", *_line([[pair] for pair in pairs.values()])])
            for seed, pair in pairs.items():
                seeds.setdefault(seed, []).append(pair)
        whole = [pairs for pairs in seeds.values() if len(pairs) == len(scale.percentages[::2])]
        if whole:
            lines.append([f"all, {title}", *_line(whole)])
    header = ["of the data, method", "test KL", "without, or of KL", "ratio", "ratio of errors", "seeds"]
    return markdown(header, lines)


def _rows(rows: Sequence[Row], kind: tuple[str, str], states: int) -> Mapping[str, Row]:
    found = [row for row in rows if (method(row), row[LAYERS], row[STATES]) == (*kind, str(states))]
    return {row[SEED]: row for row in found}


def _line(seeds: Sequence[Sequence[Pair]]) -> list[str]:
    means = [stats.gmean([float(pair[i]["test_kl"]) for pairs in seeds for pair in pairs]) for i in (0, 1)]
    ratios = [ratio(seeds, figure).text() for figure in ("test_kl", "test_action_error")]
    return [*(f"{mean:.4f}" for mean in means), *ratios, str(len(seeds))]
