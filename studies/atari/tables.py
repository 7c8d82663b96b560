"""Rows to tables: the paper's comparison, its price, play, perturbed pixels, and what each setting does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from distill.sweep.grid import Row
from studies.atari.choose import METHODS, method
from studies.atari.perturb import NOISES, SHIFTS
from studies.atari.plan import EARLY_LR, LR, SEED, SHARE, STATES, STEPS, UNTIL, Scale
from studies.atari.ratios import Pair, ratio, resampled
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


def comparison(rows: Sequence[Row], scale: Scale, other: str = METHODS[1]) -> list[str]:
    """Plain against another method at every percentage, a table a figure: means over seeds, and paired ratios.

    Means are geometric. The last line has for each seed the geometric mean over all percentages.
    """
    lines = _lines(rows, scale, other)
    header = ["KL", f"KL + {other}", "ratio", "seeds", "ratio's interval over"]
    return [
        markdown([title, *header], [[name, *_compared(found, figure, unit)] for name, found in lines.items()])
        for title, (figure, unit) in FIGURES.items()
    ]


def headline(grids: Mapping[str, Sequence[Row]], scale: Scale) -> list[str]:
    """The ratio of every figure, of every column's rows and percentage."""
    sections = []
    for title, (figure, _) in FIGURES.items():
        lines = {game: _lines(rows, scale, METHODS[1]) for game, rows in grids.items()}
        names = [
            name for name in [*(f"{p} %" for p in scale.percentages), "all"] if any(name in f for f in lines.values())
        ]
        table = [[name, *(_ratio_of(found.get(name), figure) for found in lines.values())] for name in names]
        sections.append(markdown([f"{title}: Sobolev / plain", *grids], table))
    return sections


def _ratio_of(seeds: dict[int, list[Pair]] | None, figure: str) -> str:
    """A ratio; bold where its interval does not hold 1."""
    if not seeds:
        return ""
    found = ratio([[(sobolev, plain) for plain, sobolev in mine] for mine in seeds.values()], figure)
    return f"**{found.text()}**" if found.count > 1 and not found.low <= 1 <= found.high else found.text()


def _lines(rows: Sequence[Row], scale: Scale, other: str) -> dict[str, dict[int, list[Pair]]]:
    """Pairs by line of a table and seed: one pair a percentage, and all of a seed's in the last line."""
    pairs = {f"{p} %": _paired(rows, other, states=scale.share(p)) for p in scale.percentages}
    lines = {name: {seed: [pair] for seed, pair in found.items()} for name, found in pairs.items() if found}
    if len(lines) == len(pairs):
        seeds = set.intersection(*(set(found) for found in pairs.values()))
        lines["all"] = {seed: [found[seed] for found in pairs.values()] for seed in sorted(seeds)}
    return {name: found for name, found in lines.items() if found}


def choices(rows: Sequence[Row], scale: Scale) -> str:
    """What validation games chose for every method and percentage, and the seconds it took the fastest seed."""
    lines = []
    for percentage in scale.percentages:
        for name in METHODS:
            found = [row for row in rows if _has(row, {"states": scale.share(percentage), "method": name})]
            if found:
                seconds = min(float(row["train_seconds"]) for row in found)
                texts = [found[0].get(setting) or "" for setting in (STEPS, LR, EARLY_LR, SHARE, UNTIL)]
                lines.append([f"{percentage} %, {name}", *texts, f"{seconds:.0f}"])
    header = ["of the data, method", "steps", "learning rate", "early", "share", "until", "s, fastest"]
    return markdown(header, lines)


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


def _paired(rows: Sequence[Row], other: str = METHODS[1], **settings: object) -> dict[int, Pair]:
    """By seed both methods' rows, plain and another, where there are both."""
    plain, sobolev = (
        _rows_by_seed([row for row in rows if _has(row, {**settings, "method": m})]) for m in (METHODS[0], other)
    )
    return {seed: (plain[seed], sobolev[seed]) for seed in sorted(plain.keys() & sobolev.keys())}


def _rows_by_seed(rows: Sequence[Row]) -> dict[int, Row]:
    return {int(row[SEED]): row for row in rows}


def _by_seed(rows: Sequence[Row], figure: str) -> dict[int, float]:
    """A figure by seed, where it was measured."""
    return {int(row[SEED]): float(row[figure]) for row in rows if row.get(figure)}


def set_of_test(rows: Sequence[Row]) -> str:
    """What these students were tested on."""
    known = {(row["test_games"], int(row["test_states"])) for row in rows}
    sets = " or ".join(f"{states:,} states, evenly from {games} whole games" for games, states in sorted(known))
    repeats: dict[str, list[float]] = {}
    for row in rows:
        if "test_repeats" in row:
            repeats.setdefault(row[STATES], []).append(float(row["test_repeats"]))
    shares = ", ".join(f"{np.mean(found):.1%} at {int(states):,}" for states, found in repeats.items())
    among = "Of these states so many occur, pixel by pixel, among the training states, mean over seeds"
    return f"Tested on {sets}." + (f" {among}: {shares}." if shares else "")


def against_validation(grids: Mapping[str, Sequence[Row]]) -> str:
    """Test KL over validation KL, of every student of the grid."""
    lines = []
    for game, rows in grids.items():
        test, validation = ([float(row[figure]) for row in rows] for figure in ("test_kl", "val_kl"))
        lines.append([TITLES[game], ratio_interval(test, validation).text(), str(len(rows))])
    return markdown(["game", "test KL over validation KL, interval over students", "students"], lines)


def scores(rows: Sequence[Row], scale: Scale) -> str:
    """Mean raw scores: over the games for the teacher, over seeds of training (each so many games) for students."""
    header = ["agent", "zoo", "machado"]
    teacher = {row["protocol"]: row for row in rows if row["agent"] == "teacher"}
    lines = []
    if teacher:
        lines.append(["teacher", *(_of_games(teacher.get(protocol)) for protocol in header[1:])])
    students = [row for row in rows if row["agent"] != "teacher"]
    for percentage in scale.played:
        for name in METHODS[:2]:
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
