"""Rows to tables: the paper's comparison, its price, play, perturbed pixels, and what each setting does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from distill.grid import Cell, Row
from studies.atari.choose import METHODS, as_text, method
from studies.atari.perturb import NOISES, SHIFTS
from studies.atari.plan import DEFAULT, NOISE, SEED, STATES, WEIGHT, Questions, Scale
from studies.common import Interval, markdown, mean_interval, ratio_interval

Values = npt.NDArray[np.float64]
TITLES = {"pong": "Pong", "breakout": "Breakout", "space_invaders": "Space Invaders"}


def pick(rows: Sequence[Row], figure: str, **settings: object) -> Values:
    """A figure of the rows with these settings (``states``, ``method``, ...), in order of seeds; empty without any."""
    found = _by_seed([row for row in rows if _has(row, settings)], figure)
    return np.array([found[seed] for seed in sorted(found)])


def _has(row: Row, settings: dict[str, object]) -> bool:
    known = {"states": row.get(STATES), "method": method(row), "protocol": row.get("protocol")}
    return all(known[name] == str(value) for name, value in settings.items())


def percent(found: Interval) -> str:
    """Shares in percent."""
    return Interval(100 * found.mean, 100 * found.low, 100 * found.high, found.count).text()


FIGURES = {
    "KL(teacher ‖ student), nats": ("test_kl", 1.0),
    "top-action disagreement, %": ("test_action_error", 100.0),
    "disagreement of effects, %": ("test_merged_action_error", 100.0),
    "total variation": ("test_total_variation", 1.0),
}


def comparison(rows: Sequence[Row], scale: Scale) -> list[str]:
    """Plain against Sobolev at every percentage, a table a figure: geometric means over seeds, and paired ratios.

    The last line has for each seed the geometric mean over all percentages.
    """
    sections = []
    for title, (figure, unit) in FIGURES.items():
        pairs = {f"{p} %": _paired(rows, figure, states=scale.share(p)) for p in scale.percentages}
        seeds = set.intersection(*(set(found) for found in pairs.values()))
        if all(set(found) == seeds for found in pairs.values()):
            means = {seed: stats.gmean([found[seed] for found in pairs.values()]) for seed in sorted(seeds)}
            pairs["all"] = {seed: (float(plain), float(sobolev)) for seed, (plain, sobolev) in means.items()}
        lines = []
        for name, found in pairs.items():
            if found:
                plain, sobolev = (np.array(values) for values in zip(*found.values(), strict=True))
                texts = [ratio_interval(unit * values, np.ones(len(values))).text() for values in (plain, sobolev)]
                lines.append([name, *texts, ratio_interval(sobolev, plain).text(), str(len(found))])
        sections.append(markdown([title, "KL", "KL + Sobolev", "ratio", "seeds"], lines))
    return sections


def cosines(rows: Sequence[Row], scale: Scale) -> str:
    """Of the derivatives of student and teacher: means over seeds, and paired differences."""
    lines = []
    for percentage in scale.percentages:
        found = _paired(rows, "test_jacobian_cosine", states=scale.share(percentage))
        if found:
            plain, sobolev = (np.array(values) for values in zip(*found.values(), strict=True))
            texts = [mean_interval(values).text() for values in (plain, sobolev, sobolev - plain)]
            lines.append([f"{percentage} %", *texts, str(len(found))])
    return markdown(["cosine of derivatives", "KL", "KL + Sobolev", "difference", "seeds"], lines)


def _paired(rows: Sequence[Row], figure: str, **settings: object) -> dict[int, tuple[float, float]]:
    """By seed both methods' figures, plain and Sobolev, where there are both."""
    plain, sobolev = (
        _by_seed([row for row in rows if _has(row, {**settings, "method": name})], figure) for name in METHODS
    )
    return {seed: (plain[seed], sobolev[seed]) for seed in sorted(plain.keys() & sobolev.keys())}


def _by_seed(rows: Sequence[Row], figure: str) -> dict[int, float]:
    """A figure by seed, where it was measured."""
    return {int(row[SEED]): float(row[figure]) for row in rows if row.get(figure)}


def wall_clock(grid: Sequence[Row], longer: Sequence[Row], scale: Scale) -> str:
    """Sobolev against KL with twice the steps: geometric means over the seeds that have all three, and seconds.

    These are of the fastest seed, which shared the machine with least.
    """
    header = ["of the data", "KL", "KL, longer", "Sobolev", "Sobolev / longer", "s, KL longer", "s, Sobolev"]
    lines = []
    for percentage in scale.percentages:
        states = scale.share(percentage)
        long = _by_seed([row for row in longer if _has(row, {"states": states})], "test_kl")
        pairs = _paired(grid, "test_kl", states=states)
        seeds = sorted(pairs.keys() & long.keys())
        if not seeds:
            continue
        short, sobolev = ([pairs[seed][i] for seed in seeds] for i in (0, 1))
        extended = [long[seed] for seed in seeds]
        means = [f"{stats.gmean(values):.3g}" for values in (short, extended, sobolev)]
        times = [pick(rows, "train_seconds", states=states, method=name).min()
                 for rows, name in ((longer, "KL"), (grid, "Sobolev"))]  # fmt: skip
        ratio = ratio_interval(sobolev, extended).text()
        lines.append([f"{percentage} %", *means, ratio, *(f"{value:.0f}" for value in times)])
    return markdown(header, lines)


def scores(rows: Sequence[Row], scale: Scale) -> str:
    """Mean raw scores: over the games for the teacher, over seeds of training (each so many games) for students."""
    header = ["agent", "zoo", "machado"]
    teacher = {row["protocol"]: row for row in rows if row["agent"] == "teacher"}
    lines = []
    if teacher:
        lines.append(["teacher", *(_of_games(teacher.get(protocol)) for protocol in header[1:])])
    students = [row for row in rows if row["agent"] != "teacher"]
    for percentage in scale.played:
        for name in METHODS:
            found = [
                pick(students, "mean", states=scale.share(percentage), method=name, protocol=p) for p in header[1:]
            ]
            if any(len(values) for values in found):
                texts = [mean_interval(values).text() if len(values) else "" for values in found]
                lines.append([f"{percentage} %, {name}", *texts])
    return markdown(header, lines)


def _of_games(row: Row | None) -> str:
    return "" if row is None else f"{float(row['mean']):.3g} ({float(row['low']):.3g} .. {float(row['high']):.3g})"


def perturbed(rows: Sequence[Row], scale: Scale) -> str:
    """Disagreement with the teacher at clean pixels, where the student sees perturbed ones; in percent."""
    kinds = {f"noise {sigma}": f"noise{sigma}_error" for sigma in NOISES}
    kinds |= {f"shift {pixels}": f"shift{pixels}_error" for pixels in SHIFTS}
    header = ["of the data, method", "clean", *kinds]
    lines = []
    for percentage in scale.percentages:
        for name in METHODS:
            settings = {"states": scale.share(percentage), "method": name}
            found = [pick(rows, figure, **settings) for figure in ("test_action_error", *kinds.values())]
            if len(found[0]):
                lines.append([f"{percentage} %, {name}", *(percent(mean_interval(values)) for values in found)])
    return markdown(header, lines)


def ablated(rows: Sequence[Row], questions: Questions) -> list[str]:
    """One table a question: test figures of each variation, and its KL over that of two others, paired by seed.

    These are plain distillation and the default recipe: the question's own, or else the first question's.
    """
    sections = []
    usual = next(iter(questions.values()))
    for question, variations in questions.items():
        references = [(kind(variations) or kind(usual))[0] for kind in (_plain_cells, _recipes)]
        header = ["validation KL", "test KL", "to KL", "to the recipe", "error, %", "cosine", "s, fastest", "seeds"]
        lines = []
        for label, cell in variations.items():
            figures = ("val_kl", "test_kl", "test_action_error", "test_jacobian_cosine", "train_seconds")
            found = [list(_by_seed(_of_cell(rows, cell), figure).values()) for figure in figures]
            if not found[0]:
                continue
            val, kl, error, cosine = (float(np.mean(values)) for values in found[:-1])
            ratios = [_ratio(rows, cell, reference) for reference in references]
            texts = [f"{val:.4f}", f"{kl:.4f}", *ratios, f"{100 * error:.1f}", f"{cosine:.2f}"]
            lines.append([label, *texts, f"{min(found[-1]):.0f}", str(len(found[0]))])
        if len(lines) > 1:  # or there is nothing to compare yet
            sections.append(markdown([question, *header], lines))
    return sections


def _ratio(rows: Sequence[Row], cell: Cell, reference: Cell) -> str:
    """Test KL of a cell over that of another, of the seeds that both have; nothing where these are the same."""
    mine, other = (_by_seed(_of_cell(rows, which), "test_kl") for which in (cell, reference))
    seeds = sorted(mine.keys() & other.keys())
    if not seeds or cell == reference:
        return ""
    return ratio_interval([mine[seed] for seed in seeds], [other[seed] for seed in seeds]).text()


def _plain_cells(variations: Mapping[str, Cell]) -> list[Cell]:
    return [cell for cell in variations.values() if float(cell[WEIGHT]) == 0 and not cell.get(NOISE)]


def _recipes(variations: Mapping[str, Cell]) -> list[Cell]:
    return [cell for cell in variations.values() if DEFAULT.items() <= cell.items()]


def _of_cell(rows: Sequence[Row], cell: Cell) -> list[Row]:
    """The rows, of all seeds, with the cell's settings."""
    return [row for row in rows if as_text(cell).items() <= row.items()]
