"""Tables of the ablation: a question each, every variation against the recipe and plain distillation."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats

from distill.sweep.grid import Cell, Row
from studies.atari.choose import as_text
from studies.atari.plan import SEED, WEIGHT, Questions
from studies.common import markdown, ratio_interval


def ablated(rows: Sequence[Row], questions: Questions) -> list[str]:
    """One table a question: figures on validation games, and KL over that of two others, paired by seed.

    These are the recipe (a variation that changes nothing) and plain distillation at its better learning rate.
    """
    cells = [cell for variations in questions.values() for cell in variations.values()]
    recipe = max(cells, key=cells.count)
    plain = _better([cell for cell in cells if cell[WEIGHT] == 0], rows)
    header = ["validation KL", "to the recipe", "to KL", "error, %", "steps", "s, fastest", "seeds"]
    sections = []
    for question, variations in questions.items():
        lines = [[label, *_line(rows, cell, recipe, plain)] for label, cell in variations.items() if _of(rows, cell)]
        if len(lines) > 1:  # or there is nothing to compare yet
            sections.append(markdown([question, *header], lines))
    return sections


def _line(rows: Sequence[Row], cell: Cell, recipe: Cell, plain: Cell | None) -> list[str]:
    found = list(_of(rows, cell).values())
    kl, error = (stats.gmean([float(row[name]) for row in found]) for name in ("val_kl", "val_action_error"))
    ratios = ["" if other in (None, cell) else _ratio(rows, cell, other) for other in (recipe, plain)]
    seconds = min(float(row["train_seconds"]) for row in found)
    return [f"{kl:.4f}", *ratios, f"{100 * error:.1f}", found[0]["steps"], f"{seconds:.0f}", str(len(found))]


def _ratio(rows: Sequence[Row], cell: Cell, other: Cell | None) -> str:
    """Validation KL of a cell over that of another, of the seeds that both have."""
    mine, others = _of(rows, cell), _of(rows, other or {})
    seeds = sorted(mine.keys() & others.keys())
    if not seeds:
        return ""
    return ratio_interval(*([float(part[seed]["val_kl"]) for seed in seeds] for part in (mine, others))).text()


def _better(cells: Sequence[Cell], rows: Sequence[Row]) -> Cell | None:
    """The cell with the lowest geometric mean of validation KL, if any has rows."""
    means = {
        float(stats.gmean([float(row["val_kl"]) for row in found.values()])): cell
        for cell in cells if (found := _of(rows, cell))
    }  # fmt: skip
    return means[min(means)] if means else None


def _of(rows: Sequence[Row], cell: Cell) -> dict[int, Row]:
    """The rows with the cell's settings, by seed."""
    return {int(row[SEED]): row for row in rows if as_text(cell).items() <= row.items()}


def ideas_table(rows: Sequence[Row]) -> str:
    """What each idea does: figures after the last step, and KL over that of its method without it, paired by seed."""
    by_idea: dict[str, dict[int, Row]] = {}
    for row in rows:
        by_idea.setdefault(row["idea"], {})[int(row[SEED])] = row
    lines = []
    for idea, found in by_idea.items():
        kl, error = (
            stats.gmean([float(row[name]) for row in found.values()]) for name in ("val_kl", "val_action_error")
        )
        ratios = []
        for base in dict.fromkeys((idea.partition(",")[0], "KL")):
            seeds = sorted(found.keys() & by_idea.get(base, {}).keys())
            values = ([float(part[seed]["val_kl"]) for seed in seeds] for part in (found, by_idea.get(base, {})))
            ratios.append("" if base == idea or not seeds else ratio_interval(*values).text())
        lines.append([idea, f"{kl:.4f}", *(ratios * 2)[:2], f"{100 * error:.1f}", str(len(found))])
    return markdown(["idea", "validation KL", "to its method", "to KL", "error, %", "seeds"], lines)
