"""Fits small networks to classical test functions, by values only and by values and derivatives.

python -m studies.regression           all of it, about half an hour of one core; goes on where it was cut off
python -m studies.regression --quick   the same in a minute, on two functions: shows that it runs, no more
"""

from __future__ import annotations

from pathlib import Path

from studies.common import arguments, start, write_tables
from studies.regression.plots import ratios, sheet
from studies.regression.run import FULL, QUICK, Rows
from studies.regression.tables import sections

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Fit, then write rows, tables and pictures."""
    args = arguments(__doc__ or "", RESULTS)
    scale = QUICK if args.quick else FULL
    out = args.out
    rows = Rows(scale, out / "rows.csv")
    write_tables(out / "tables.md", "Regression on classical optimisation functions", sections(rows))
    ratios(out / "ratios.png", rows)
    for name in scale.functions:
        sheet(out / f"{name}.png", name, scale.points, scale.steps)
    print(f"wrote {out}/tables.md and {len(scale.functions) + 1} pictures")


if __name__ == "__main__":
    start(main)
