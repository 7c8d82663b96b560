"""Rows to tables: the paper's comparison, its price, play, perturbed pixels, and what each setting does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from distill.sweep.grid import Cell, Row
from studies.atari.choose import METHODS, as_text, method
from studies.atari.perturb import NOISES, SHIFTS
from studies.atari.plan import DEFAULT, NOISE, SEED, STATES, WEIGHT, Questions, Scale
from studies.atari.ratios import GAMES, Pair, ratio, resampled
from studies.common import Interval, markdown, mean_interval, ratio_interval

Values = npt.NDArray[np.float64]
EARLIER = 2048
"""States that students were tested on before only whole games were."""
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
    pairs = {f"{p} %": _paired(rows, states=scale.share(p)) for p in scale.percentages}
    lines = {name: {seed: [pair] for seed, pair in found.items()} for name, found in pairs.items() if found}
    if len(lines) == len(pairs) and len({tuple(found) for found in pairs.values()}) == 1:
        seeds = next(iter(pairs.values()))
        lines["all"] = {seed: [found[seed] for found in pairs.values()] for seed in seeds}
    header = ["KL", "KL + Sobolev", "ratio", "seeds", "ratio's interval over"]
    return [
        markdown([title, *header], [[name, *_compared(found, figure, unit)] for name, found in lines.items()])
        for title, (figure, unit) in FIGURES.items()
    ]


def _compared(seeds: dict[int, list[Pair]], figure: str, unit: float) -> list[str]:
    """One line: each method's geometric mean over its rows and then over seeds, and the ratio."""
    pairs = list(seeds.values())
    values = np.array([[[unit * float(row[figure]) for row in pair] for pair in mine] for mine in pairs])
    plain, sobolev = (ratio_interval(means, np.ones(len(means))) for means in stats.gmean(values, axis=1).T)
    found = ratio([[(sobolev, plain) for plain, sobolev in mine] for mine in pairs], figure)
    return [plain.text(), sobolev.text(), found.text(), str(len(pairs)), resampled(found)]


def cosines(rows: Sequence[Row], scale: Scale) -> str:
    """Of the derivatives of student and teacher: means over seeds, and paired differences."""
    lines = []
    for percentage in scale.percentages:
        pairs = _paired(rows, states=scale.share(percentage)).values()
        found = np.array([[float(row["test_jacobian_cosine"]) for row in pair] for pair in pairs])
        if len(found):
            plain, sobolev = found.T
            texts = [mean_interval(values).text() for values in (plain, sobolev, sobolev - plain)]
            lines.append([f"{percentage} %", *texts, str(len(found))])
    return markdown(["cosine of derivatives", "KL", "KL + Sobolev", "difference", "seeds"], lines)


def _paired(rows: Sequence[Row], **settings: object) -> dict[int, Pair]:
    """By seed both methods' rows, plain and Sobolev, where there are both."""
    plain, sobolev = (_rows_by_seed([row for row in rows if _has(row, {**settings, "method": m})]) for m in METHODS)
    return {seed: (plain[seed], sobolev[seed]) for seed in sorted(plain.keys() & sobolev.keys())}


def _rows_by_seed(rows: Sequence[Row]) -> dict[int, Row]:
    return {int(row[SEED]): row for row in rows}


def _by_seed(rows: Sequence[Row], figure: str) -> dict[int, float]:
    """A figure by seed, where it was measured."""
    return {int(row[SEED]): float(row[figure]) for row in rows if row.get(figure)}


def set_of_test(rows: Sequence[Row]) -> str:
    """What these students were tested on."""
    known = {(row["test_games"], int(row["test_states"])) for row in rows if row.get(GAMES)}
    if known:
        return "Tested on " + " or ".join(f"{states:,} states, whole games: {games}" for games, states in known) + "."
    return (
        f"Tested on {EARLIER:,} states drawn from all test states, those of games that the recording's end cut off "
        "included. Each game's part was not kept: intervals are over seeds only, and leave out the draw of test games."
    )


def against_validation(grids: Mapping[str, Sequence[Row]]) -> str:
    """Test KL over validation KL, of every student of the grid."""
    lines = []
    for game, rows in grids.items():
        test, validation = ([float(row[figure]) for row in rows] for figure in ("test_kl", "val_kl"))
        lines.append([TITLES[game], ratio_interval(test, validation).text(), str(len(rows))])
    return markdown(["game", "test KL over validation KL, interval over students", "students"], lines)


def wall_clock(grid: Sequence[Row], longer: Sequence[Row], scale: Scale) -> str:
    """Sobolev against KL with twice the steps: geometric means over the seeds that have all three, and seconds.

    These are of the fastest seed, which shared the machine with least.
    """
    header = ["of the data", "KL", "KL, longer", "Sobolev", "Sobolev / longer", "interval over", "s, KL longer",
              "s, Sobolev"]  # fmt: skip
    lines = []
    for percentage in scale.percentages:
        states = scale.share(percentage)
        long = _rows_by_seed([row for row in longer if _has(row, {"states": states})])
        pairs = _paired(grid, states=states)
        three = [(*pairs[seed], long[seed]) for seed in sorted(pairs.keys() & long.keys())]
        if not three:
            continue
        kls = np.array([[float(row["test_kl"]) for row in rows] for rows in three])
        times = [pick(rows, "train_seconds", states=states, method=name).min()
                 for rows, name in ((longer, "KL"), (grid, "Sobolev"))]  # fmt: skip
        found = ratio([[(sobolev, longer)] for _, sobolev, longer in three], "test_kl")
        texts = [f"{value:.3g}" for value in stats.gmean(kls)[[0, 2, 1]]]
        lines.append([f"{percentage} %", *texts, found.text(), resampled(found), *(f"{value:.0f}" for value in times)])
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
        header = ["validation KL", "test KL", "to KL", "to the recipe", "error, %", "cosine", "s, fastest", "seeds",
                  "ratios' intervals over"]  # fmt: skip
        lines = []
        for label, cell in variations.items():
            figures = ("val_kl", "test_kl", "test_action_error", "test_jacobian_cosine", "train_seconds")
            found = [list(_by_seed(_of_cell(rows, cell), figure).values()) for figure in figures]
            if not found[0]:
                continue
            val, kl, error, cosine = (float(np.mean(values)) for values in found[:-1])
            ratios = [_ratio(rows, cell, reference) for reference in references]
            shown = ["" if each is None else each.text() for each in ratios]
            texts = [f"{val:.4f}", f"{kl:.4f}", *shown, f"{100 * error:.1f}", f"{cosine:.2f}"]
            over = next((resampled(each) for each in ratios if each is not None), "")
            lines.append([label, *texts, f"{min(found[-1]):.0f}", str(len(found[0])), over])
        if len(lines) > 1:  # or there is nothing to compare yet
            sections.append(markdown([question, *header], lines))
    return sections


def _ratio(rows: Sequence[Row], cell: Cell, reference: Cell) -> Interval | None:
    """Test KL of a cell over that of another, of the seeds that both have; nothing where these are the same."""
    mine, other = (_rows_by_seed(_of_cell(rows, which)) for which in (cell, reference))
    seeds = sorted(mine.keys() & other.keys())
    if not seeds or cell == reference:
        return None
    return ratio([[(mine[seed], other[seed])] for seed in seeds], "test_kl")


def _plain_cells(variations: Mapping[str, Cell]) -> list[Cell]:
    return [cell for cell in variations.values() if float(cell[WEIGHT]) == 0 and not cell.get(NOISE)]


def _recipes(variations: Mapping[str, Cell]) -> list[Cell]:
    return [cell for cell in variations.values() if DEFAULT.items() <= cell.items()]


def _of_cell(rows: Sequence[Row], cell: Cell) -> list[Row]:
    """The rows, of all seeds, with the cell's settings."""
    return [row for row in rows if as_text(cell).items() <= row.items()]
