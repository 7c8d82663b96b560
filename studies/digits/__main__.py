"""Do noise and band limits do here what their papers say? The verdict: docs/robustness.md.

python -m studies.digits           all of it, about six minutes of one core; goes on where it was cut off
python -m studies.digits --quick   the same in seconds: shows that it runs, no more
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.sweep.grid import Row
from studies.common import arguments, markdown, mean_interval, start, write_tables
from studies.digits.fit import EPS
from studies.digits.run import FULL, METHODS, QUICK, Scale, run

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Train, attack, then write rows and tables."""
    args = arguments(__doc__ or "", RESULTS)
    scale = QUICK if args.quick else FULL
    defences, limits = run(scale, args.out)
    sections = ["## Noise and adversarial training", _about(scale), noise_table(defences)]
    sections += ["## Band limits", "Plain training; c is asked for in both convolutions.", limit_table(limits)]
    write_tables(args.out / "tables.md", "Defences on digits", sections)
    print(f"wrote {args.out}/tables.md")


def noise_table(rows: Sequence[Row]) -> str:
    """Accuracies by method, and what is gained over adversarial training alone, paired by seed."""
    base = _column(rows, "method", "adversarial", "pgd")
    lines = []
    for method in METHODS:
        line = [method, *(_percent(_column(rows, "method", method, how)) for how in ("clean", "fgsm", "pgd"))]
        gain = [a - b for a, b in zip(_column(rows, "method", method, "pgd"), base, strict=True)]
        lines.append([*line, _percent(gain)])
    return markdown(["training", "clean, %", "fgsm, %", "pgd, %", "pgd, points above adversarial"], lines)


def limit_table(rows: Sequence[Row]) -> str:
    """Accuracy by band limit, and what is lost, paired by seed."""
    cuts = list(dict.fromkeys(row["cut"] for row in rows))
    base, lines = _column(rows, "cut", cuts[0], "clean"), []
    for cut in cuts:
        clean = _column(rows, "cut", cut, "clean")
        lost = [b - a for a, b in zip(clean, base, strict=True)]
        stored = next(row["weights"] for row in rows if row["cut"] == cut)
        lines.append([f"{float(cut):g}", _percent(clean), _percent(lost), stored])
    return markdown(["c", "clean, %", "points lost", "weights stored"], lines)


def _about(scale: Scale) -> str:
    return (
        f"Test accuracy, mean with 95 % interval over {len(scale.seeds)} seeds, {scale.steps} steps of 64 images. "
        f"Attacks are of {EPS * 16:g} of 16 gray levels, pgd of 20 steps; where there is noise, slopes are means over "
        f"{scale.draws} draws. All but plain train on pgd of 7 steps, half and half."
    )


def _column(rows: Sequence[Row], name: str, value: str, figure: str) -> list[float]:
    return [float(row[figure]) for row in rows if row[name] == value]


def _percent(values: Sequence[float]) -> str:
    return mean_interval([100 * value for value in values]).text()


if __name__ == "__main__":
    start(main)
