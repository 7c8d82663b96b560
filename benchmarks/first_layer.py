"""What a step costs of a student on its teacher's first layer, which is left alone, over one that trains all layers.

    python benchmarks/first_layer.py --out benchmarks/results/cpu/first_layer.json

The gradient alone, on a batch that is there, as in ``step.py``. Programs run in processes of their own and take turns.
"""

from __future__ import annotations

import argparse
import contextlib

from measure import Elsewhere, Row, interleaved, main, milliseconds  # first: it sets the process up

# isort: split

from distill.system.device import pick_device

STUDENT, ACTIONS = "mnih2013", 6
SHARE = 0.25
"""Of the batch that carries derivatives."""
TURN = 5
"""Steps in a row of each program."""


def measure(args: argparse.Namespace) -> list[Row]:
    device, rounds = pick_device(args.device), 2 if args.quick else 9
    kinds = {"plain step": 0.0, f"step with derivatives on {SHARE:g} of it": SHARE}
    rows = []
    for batch in (32, 128):
        common = {"student": STUDENT, "actions": ACTIONS, "batch": batch, "device": str(device), "tuned": True}
        with contextlib.ExitStack() as stack:
            programs = {
                f"{kind}, {fixed}": stack.enter_context(Elsewhere(**common, program="engine", share=share, fixed=fixed))
                for kind, share in kinds.items() for fixed in (0, 1)
            }  # fmt: skip
            found = interleaved(programs, rounds, calls=TURN)
        rows += [
            Row(f"{kind}, {STUDENT}, batch {batch}, first layer left alone", "all layers trained",
                found[f"{kind}, 1"] / found[f"{kind}, 0"], "x", "", {"ms": milliseconds(found)})
            for kind in kinds
        ]  # fmt: skip
    return rows


if __name__ == "__main__":
    main(measure, "A step of a student on its teacher's first layer")
