"""Is a gradient guessed better by a loss predictor that was trained on value and gradient? The verdict: docs/paper.md.

python -m studies.synthetic              digits, about 20 minutes on one core
python -m studies.synthetic --data DIR   CIFAR-10, from the folder of its Python version; it wants more --steps
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distill.api import UserError, product, run_grid
from distill.sweep.grid import Cell, Row
from studies.common import arguments, mean_interval, start, write_tables
from studies.synthetic.data import Data, cifar10, digits
from studies.synthetic.tables import draw, rates, results
from studies.synthetic.training import METHODS, Ranked, Recipe, accuracy, train

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    steps: int
    seeds: Sequence[int]
    tuning_seeds: Sequence[int]
    lr: Sequence[float]
    module_lr: Sequence[float]
    weight: Sequence[float]


RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FULL = Scale(1000, range(10), range(100, 103), RATES, RATES[1:], (0.1, 1.0, 10.0))
QUICK = Scale(100, range(2), range(100, 101), (1e-3, 3e-3, 1e-2), (1e-2,), (1.0,))


def main() -> None:
    """Search, train, write rows, tables and the figure."""
    args = arguments(__doc__ or "", RESULTS, _flags)
    out = args.out / "cifar10" if args.data is not None and args.out.is_relative_to(RESULTS) else args.out
    scale = QUICK if args.quick else FULL
    scale = replace(scale, steps=args.steps) if args.steps is not None else scale
    if scale.steps < 1:
        raise UserError(f"--steps {scale.steps} trains nothing; give 1 or more")
    data = digits() if args.data is None else cifar10(args.data)
    ranked = search(data, scale, out / "search.csv")
    rows = {
        protocol: final(data, recipes, scale, out / "rows.csv")
        for protocol, recipes in protocols(ranked, scale.lr[1:-1]).items()
    }
    title = f"Synthetic gradients on {data.name}"
    write_tables(out / "tables.md", title, [*results(rows, scale.steps), *rates(ranked)])
    draw(out / "synthetic.png", rows)
    print(f"wrote {out}/tables.md and {out}/synthetic.png")


def search(data: Data, scale: Scale, path: Path) -> Ranked:
    """Every method's recipes with their mean validation accuracies over the tuning seeds, best first."""

    def run(cell: Cell) -> dict[str, float]:
        net, _ = train(data, _recipe(cell), cell["seed"], scale.steps)
        return {"validation": accuracy(net, data.validation)}

    recipes = [recipe for method in METHODS for recipe in grid(method, scale)]
    cells = [cell for recipe in recipes for cell in _cells(data, recipe, scale.steps, scale.tuning_seeds)]
    rows = iter(run_grid(cells, run, path, say=print))
    ranked: Ranked = {method: [] for method in METHODS}
    for recipe in recipes:
        score = mean_interval([float(next(rows)["validation"]) for _ in scale.tuning_seeds]).mean
        ranked[recipe.method].append((recipe, score))
    return {method: sorted(found, key=lambda entry: -entry[1]) for method, found in ranked.items()}


def grid(method: str, scale: Scale) -> list[Recipe]:
    """What is tried of a method: only the settings that it has, and about as many combinations of each.

    Sobolev has lambda to try, so the two outermost learning rates are left to the others.
    """
    guesses = method not in ("backprop", "noprop")
    axes = {
        "method": [method],
        "lr": scale.lr[1:-1] if method == "sobolev" else scale.lr,
        "module_lr": scale.module_lr if guesses else [None],
        "weight": scale.weight if method == "sobolev" else [None],
    }
    return [Recipe(**cell) for cell in product(axes)]


def protocols(ranked: Ranked, common: Sequence[float]) -> dict[str, list[Recipe]]:
    """The recipes that are compared, one a method: the best of each, and the best of each at one learning rate.

    Args:
        ranked: what the search found.
        common: learning rates that every method was tried at; the best of them for the true gradient is the one rate,
            since the paper's settings were chosen for it.
    """
    lr = next(recipe.lr for recipe, _ in ranked["backprop"] if recipe.lr in common)
    return {
        "each at its own best settings": [found[0][0] for found in ranked.values()],
        f"all at lr {lr:g}, the true gradient's best": [
            next(recipe for recipe, _ in found if recipe.lr == lr) for found in ranked.values()
        ],
    }


def final(data: Data, recipes: Sequence[Recipe], scale: Scale, path: Path) -> dict[str, list[Row]]:
    """Every method's rows of test accuracy and curves, one a seed."""

    def run(cell: Cell) -> dict[str, float]:
        net, curves = train(data, _recipe(cell), cell["seed"], scale.steps)
        return {"test": accuracy(net, data.test), **curves}

    cells = [cell for recipe in recipes for cell in _cells(data, recipe, scale.steps, scale.seeds)]
    rows = run_grid(cells, run, path, say=print)
    return {recipe.method: [row for row in rows if row["method"] == recipe.method] for recipe in recipes}


def _cells(data: Data, recipe: Recipe, steps: int, seeds: Sequence[int]) -> list[Cell]:
    return [{"data": data.name, **asdict(recipe), "steps": steps, "seed": seed} for seed in seeds]


def _recipe(cell: Mapping[str, Any]) -> Recipe:
    return Recipe(cell["method"], cell["lr"], cell["module_lr"], cell["weight"])


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10's Python version (default: the digits)")
    parser.add_argument("--steps", type=int, help=f"training steps (default: {FULL.steps}, with --quick {QUICK.steps})")


if __name__ == "__main__":
    start(main)
