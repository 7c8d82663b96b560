"""One strict reader for all YAML: what could be misread, or could fill the memory, is refused in one line."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from distill.errors import first_line

LONGEST = 2**20
"""Bytes of a file."""
DEEPEST = 50
"""Lists and mappings within each other."""
LARGEST = 200_000
"""Keys and values in all, where every alias counts as what it stands for."""
DIGITS = 250
"""Of a whole number; what has more may be one that no float can hold."""
FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's safe loader, in C where it was built so."""
INT, FLOAT, DATE, MERGE, DEFAULT, TEXT = (
    f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp", "merge", "value", "str")
)
WHOLE = r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$"
NUMBER = r"[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"


class BadYaml(ValueError):
    """Text that is not YAML, or that is refused; the message is one line that says where."""


class RefusedYaml(BadYaml):
    """A text that may be YAML but repeats a key, refers to itself, is too long, too deep or expands to too much."""


def load_yaml(text: str, base: Any = FAST) -> Any:
    """One YAML (or JSON) document as plain Python values; None where it is empty.

    Numbers such as ``1e-3`` are floats. Dates are text, and so are ``010`` and ``1:30``, which some take for 8 and 90.

    Args:
        text: the document.
        base: PyYAML's loader class that knows what tags mean.

    Raises:
        BadYaml: see there.
    """
    try:
        try:
            _Check().run(yaml.parse(text, FAST))
        except yaml.MarkedYAMLError:
            if len(text) < 100_000:  # the parser in Python says more
                _Check().run(yaml.parse(text, yaml.SafeLoader))
            raise
        return yaml.load(text, _loader(base))
    except BadYaml:
        raise
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        tab = "; use spaces, not tabs" if r"'\t'" in str(error.problem) else ""
        twice = f"{error.context}, " if "duplicate anchor" in str(error.context) else ""
        raise BadYaml(f"{twice}{error.problem or error.context}{line}{tab}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise BadYaml(
            first_line(error).partition("; use sys")[0]
        ) from error  # an odd character, or a value that its tag does not fit


def read_yaml(path: Path, base: Any = FAST) -> Any:
    """``load_yaml`` of a UTF-8 file.

    Raises:
        BadYaml: see there; also for a folder, and a file that is too long or no text.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise RefusedYaml("it is a folder" if path.is_dir() else "it is not a regular file")
    with path.open("rb") as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise RefusedYaml(f"it is longer than {LONGEST:,} bytes")
    try:
        return load_yaml(data.decode("utf-8-sig"), base)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadYaml(f"line {line} is not UTF-8 text") from error


@dataclass(eq=False)
class _Node:
    """A value; or a list, a mapping or the whole text as far as it has been read."""

    anchor: str | None = None
    mapping: bool = False
    text: str | None = None
    """Of a single value."""
    size: int = 1
    depth: int = 0
    """Lists and mappings within each other, itself included."""
    items: int = 0
    keys: set[str] = field(default_factory=set)


class _Check:
    """Refuses what is refused from the parser's events alone: nothing is built, nothing recurses."""

    def __init__(self) -> None:
        self._open = [_Node()]
        self._anchors: dict[str | None, _Node] = {}
        self._size = self._line = 0

    def run(self, events: Iterator[Any]) -> None:
        """Go through all events of a text."""
        for event in events:
            self._line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent) and self._open[0].items:
                raise RefusedYaml(f"a second document begins in line {self._line}; keep one")
            if isinstance(event, yaml.CollectionStartEvent):
                self._begin(_Node(event.anchor, isinstance(event, yaml.MappingStartEvent), depth=1))
            elif isinstance(event, yaml.CollectionEndEvent):
                self._add(self._open.pop())
            elif isinstance(event, yaml.ScalarEvent):
                if event.implicit[0] and len(event.value) > DIGITS and re.match(WHOLE, event.value):
                    raise RefusedYaml(f"the number in line {self._line} has more than {DIGITS} digits")
                self._anchors[event.anchor] = node = _Node(event.anchor, text=event.value)
                self._grow(node)
                self._add(node)
            elif isinstance(event, yaml.AliasEvent) and event.anchor in self._anchors:
                self._alias(self._anchors[event.anchor])  # an unknown one is the loader's to refuse

    def _begin(self, node: _Node) -> None:
        self._anchors[node.anchor] = node
        self._grow(node)
        self._open.append(node)

    def _alias(self, node: _Node) -> None:
        if node in self._open:
            raise RefusedYaml(f"'*{node.anchor}' in line {self._line} stands within what it stands for")
        self._grow(node)
        self._add(node)

    def _add(self, node: _Node) -> None:
        within = self._open[-1]
        if within.mapping and within.items % 2 == 0 and node.text is not None:
            if node.text in within.keys:
                raise RefusedYaml(f"{node.text!r} in line {self._line} is a duplicate: it was given before; keep one")
            within.keys.add(node.text)
        within.items += 1
        within.size += node.size
        within.depth = max(within.depth, 1 + node.depth)

    def _grow(self, node: _Node) -> None:
        """Bound the whole text's size and depth, with another ``node`` in it."""
        self._size += node.size
        if self._size > LARGEST:
            raise RefusedYaml(f"up to line {self._line} it expands to more than {LARGEST:,} values")
        if len(self._open) - 1 + node.depth > DEEPEST:
            raise RefusedYaml(f"line {self._line} is nested more than {DEEPEST} deep")


@functools.cache
def _loader(base: Any) -> Any:
    """A loader of PyYAML's with YAML 1.2's numbers and without dates; a mapping's own keys win over merged ones."""

    class Loader(base):  # type: ignore[misc]
        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            _merge(node)

    Loader.yaml_implicit_resolvers = {
        letter: [(tag, form) for tag, form in forms if tag not in (INT, FLOAT, DATE)]
        for letter, forms in base.yaml_implicit_resolvers.items()
    }
    form = re.compile(rf"(?:[-+]?(?:{NUMBER}|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$")
    Loader.add_implicit_resolver(FLOAT, form, list("-+0123456789."))
    Loader.add_implicit_resolver(INT, re.compile(WHOLE), list("-+0123456789"))
    return Loader


def _merge(node: yaml.MappingNode) -> None:
    """Put what ``<<`` names among a mapping's keys: its own win, then those of the first that is named.

    PyYAML's own way of it differs by version: 6.0.4 takes the last that is named.
    """
    merged: list[tuple[yaml.Node, yaml.Node]] = []
    own: list[tuple[yaml.Node, yaml.Node]] = []
    for key, value in node.value:
        if key.tag != MERGE:
            key.tag = TEXT if key.tag == DEFAULT else key.tag  # a key that is =
            own.append((key, value))
            continue
        for part in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
            if not isinstance(part, yaml.MappingNode):
                what = f"expected a mapping or list of mappings for merging, but found {part.id}"
                raise yaml.constructor.ConstructorError("while reading <<", node.start_mark, what, part.start_mark)
            _merge(part)
            merged += part.value
    if len(own) < len(node.value):
        last = {(key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key): (key, value)
                for key, value in merged + own}  # fmt: skip
        node.value = list(last.values())
