"""Tables in the pages that are made of the toolkit's own entries: ``python docs/tables.py`` writes them anew.

In a page such a table stands between two comments, ``<!-- presets, by make tables -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from distill.attack.method import ATTACKS
from distill.envs.presets import PRESETS, Preset
from distill.figures.figure import OWN, ROWS, sums_of
from distill.losses.terms import TERMS
from distill.networks.layers.layer import LAYERS, Activation
from teachers.formats.format import FORMATS

PAGES = Path(__file__).parent
APART = ("name", "meaning", "gray")
"""Fields of a preset that have a place of their own in its row."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown, with a line before and behind it."""
    lines = [list(head), *[[cell.replace("|", r"\|") for cell in row] for row in rows]]
    lines.insert(1, ["---"] * len(lines[0]))
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"\n{text}\n".replace("|  |", "| |")


def first_sentence(thing: object) -> str:
    """What the first line of a docstring says, without its full stop."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].rstrip(".").replace("``", "`")


def presets() -> str:
    """Every preset of the toolkit, and its settings that have another value than by default."""

    def changed(preset: Preset) -> str:
        values = {field.name: getattr(preset, field.name) for field in fields(preset) if field.name not in APART}
        usual = {field.name: field.default for field in fields(preset)}
        told = [f"`{name}={value}`" for name, value in values.items() if value != usual[name]]
        return ", ".join([f"`{preset.gray}`", *told])

    return table(["preset", "what it shows, and to whom", "settings"],
                 [[f"`{preset.name}`", preset.meaning, changed(preset)] for preset in PRESETS.values()])  # fmt: skip


def formats() -> str:
    """Every format of teachers."""
    rows = [[f"`{one.name}`", one.files, one.agents] for one in FORMATS.values()]
    return table(["format", "recognised by", "read"], rows)


def terms() -> str:
    """Every term that ``objective.terms`` can name."""
    return table(["term", "loss of a state"], [[name, first_sentence(term)] for name, term in TERMS.items()])


def layers() -> str:
    """Every layer that the fast engine knows: the docstrings of their files."""

    def file(layer: object) -> object:
        owner = layer.slope if isinstance(layer, Activation) else layer
        return importlib.import_module(owner.__module__)  # type: ignore[attr-defined]

    return table(["layer", "what it is"], [[name, first_sentence(file(layer))] for name, layer in LAYERS.items()])


def figures() -> str:
    """Every figure of fidelity."""
    return table(["tag", "meaning", "unit"], [[f"val/{one.name}", one.meaning, one.unit] for one in OWN])


def attacks() -> str:
    """Every way to perturb pixels."""
    head = ["method", "what it does", "`eps`", "`target`"]
    rows = [[f"`{one.name}`", one.meaning, *("yes" if yes else "no" for yes in (one.sized, one.targeted))]
            for one in ATTACKS.values()]  # fmt: skip
    return table(head, rows)


def sums() -> str:
    """What figures add up over states, and over derivatives."""
    names = [f"`{name}`" for name in sums_of(OWN)]
    place = names.index(f"`{ROWS}`")
    told = f"{', '.join(names[:place])}, and over derivatives {', '.join(names[place:])}."
    return "\n" + "\n".join(textwrap.wrap(told, 120)) + "\n\n"


MADE: dict[str, tuple[Callable[[], str], ...]] = {
    "extending.md": (terms, layers),
    "metrics.md": (figures, sums),
    "presets.md": (presets,),
    "robustness.md": (attacks,),
    "teachers.md": (formats,),
}


def written(page: str, text: str) -> str:
    """The text of a page with its tables as they are now.

    Raises:
        ValueError: a table has no place there.
    """
    for make in MADE[page]:
        place = rf"(<!-- {make.__name__}, by make tables -->\n?).*?(<!-- end -->)"
        text, count = re.subn(place, lambda found, make=make: found[1] + make() + found[2], text, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"docs/{page} has no place for {make.__name__}")
    return text


def main() -> None:
    """Write all of them."""
    for page in MADE:
        path = PAGES / page
        path.write_text(written(page, path.read_text()))


if __name__ == "__main__":
    main()
