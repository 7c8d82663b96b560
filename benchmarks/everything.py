"""Run every benchmark and print one table: what was measured against what, and whether the goal was reached.

    python benchmarks/everything.py --out runs/bench

Each program runs in a process of its own, one after the other, and writes <out>/<name>.json; the table is
<out>/table.md. ``--only step,loader`` measures these anew and takes the others from <out>. With ``--page FILE`` the
table also replaces what lies between the two marks in that file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from measure import table

PROGRAMS = ("startup", "step", "loader", "environment", "collection", "jacobian", "evaluation", "teacher",
            "memory", "whole_job")  # fmt: skip
MARKS = ("<!-- table: begin -->", "<!-- table: end -->")


def run(name: str, args: argparse.Namespace) -> bool:
    """Run one program; False where it failed."""
    out = args.out / f"{name}.json"
    command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), "--device", args.device, "--out", str(out)]
    started = time.perf_counter()
    print(f"{name} ...", flush=True)
    ended = subprocess.run([*command, *(["--quick"] if args.quick else [])], stdout=subprocess.PIPE, text=True)
    print(ended.stdout, f"{name}: {time.perf_counter() - started:.0f} s\n", sep="", flush=True)
    return ended.returncode == 0


def page(records: dict[str, dict[str, Any]], args: argparse.Namespace) -> str:
    """The table, with where and when it was measured."""
    first = next(iter(records.values()))
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items() if name != "cores")
    command = "make bench" + (f" DEVICE={args.device}" if args.device != "cpu" else "")
    dates = sorted({record["date"] for record in records.values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    about = f"`{command}`, {when}, {first['versions']['cores']} cores, {first['device']}; {versions}."
    return (
        textwrap.fill(about, 119, break_on_hyphens=False)
        + "\n\n"
        + table([row for record in records.values() for row in record["rows"]])
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every benchmark.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="few and small repetitions: shows that it runs, no more")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of results (%(default)s)")
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs to run, with commas between them")
    parser.add_argument("--page", type=Path, default=None, help="put the table between the marks in this file")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    failed = [name for name in PROGRAMS if name in args.only.split(",") and not run(name, args)]
    paths = {name: args.out / f"{name}.json" for name in PROGRAMS if name not in failed}
    records = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    if records:
        text = page(records, args)
        (args.out / "table.md").write_text(text + "\n")
        if args.page is not None:
            before, rest = args.page.read_text().split(MARKS[0])
            args.page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
        print(text)
    print(f"\n{time.perf_counter() - started:.0f} s in all; results in {args.out}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
