"""YAML that could be misread, or could fill the memory, is refused in one line that says where."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from distill.system.yaml_text import DEEPEST, LARGEST, LONGEST, BadYaml, RefusedYaml, load_yaml, read_yaml


def laughs(levels: int, link: str = "[{}]") -> str:
    """Every level stands for nine of the one before."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} " + link.format(", ".join([f"*a{n - 1}"] * 9)) for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n", None),
        ("---\na: 1\n...\n", {"a": 1}),
        ("[1e-3, 1., -.5, 2.5e+3, -.inf, 1_000]", [1e-3, 1.0, -0.5, 2500.0, -math.inf, 1000]),
        ("2020-01-02", "2020-01-02"),
        ("[010, 1:30, 0o10, -007, 1:30.5]", ["010", "1:30", "0o10", "-007", "1:30.5"]),
        ("[0, -0, +12, 0x10, 0b11, -1_000]", [0, 0, 12, 16, 3, -1000]),
        ("base: &b {x: 1, y: 2}\nmore: {<<: *b, x: 3}", {"base": {"x": 1, "y": 2}, "more": {"x": 3, "y": 2}}),
        ("a: {k: 1}\nb: {k: 1}", {"a": {"k": 1}, "b": {"k": 1}}),
        ("a: &a [1]\nb: [*a, *a]", {"a": [1], "b": [[1], [1]]}),
        ("q: {z: &a {<<: &b {x: 1}, x: 2}}\nc: {<<: *a}", {"q": {"z": {"x": 2}}, "c": {"x": 2}}),
        (
            "a: &a {steps: 1}\nb: &b {steps: 2, seed: 3}\nc: {<<: [*a, *b]}\nd: {<<: [*b, *a], seed: 4}",
            {"a": {"steps": 1}, "b": {"steps": 2, "seed": 3}}
            | {"c": {"steps": 1, "seed": 3}, "d": {"steps": 2, "seed": 4}},
        ),
        ("=: 1", {"=": 1}),
        ("&k a: 1\nb: *k", {"a": 1, "b": "a"}),
        ('{"seed": [1, 2], "x": null}', {"seed": [1, 2], "x": None}),
        ("[" * DEEPEST + "]" * DEEPEST, eval("[" * DEEPEST + "]" * DEEPEST)),
    ],
)
def test_what_is_read(text: str, value: Any) -> None:
    assert load_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\nseed: 2", r"'seed' in line 2 is a duplicate"),
        ("train:\n  steps: 1\n  warmup: 2\n  steps: 3", "'steps' in line 4 is a duplicate"),
        ("[{a: 1, b: 2, 'a': 3}]", "'a' in line 1 is a duplicate"),
        ("&k a: 1\n*k : 2", "'a' in line 2 is a duplicate"),
        ("a: {<<: {x: 1}, <<: {y: 1}}", "'<<' in line 1 is a duplicate"),
        ("- 1\n- " + "1" * 400, "the number in line 2 has more than 250 digits"),
        ("a: &a [*a]", r"'\*a' in line 1 stands within what it stands for"),
        ("a: &a\n  b:\n    c: *a", r"'\*a' in line 3 stands within what it stands for"),
        (laughs(12), f"expands to more than {LARGEST:,} values"),
        (laughs(12, "{{<<: [{}]}}"), f"expands to more than {LARGEST:,} values"),
        ("[" * 3000 + "]" * 3000, f"nested more than {DEEPEST} deep"),
        ("{a: " * 100_000, f"nested more than {DEEPEST} deep"),
        ("- " * 3000 + "x", f"nested more than {DEEPEST} deep"),
        (
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000)),
            "line 50 is nested more than",
        ),
        ("a: 1\n---\nb: 2", "a second document begins in line 2"),
    ],
)
def test_what_is_yaml_but_refused(text: str, says: str) -> None:
    started = time.perf_counter()
    with pytest.raises(RefusedYaml, match=says) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1\n", r"expected ',' or '\]', but got '<stream end>' in line 2"),
        ("a:\n\tb: 1", "in line 2; use spaces, not tabs"),
        ("a: *x", "found undefined alias.* in line 1"),
        ("a: &x 1\nb: &x 2\nc: @", "line 3"),
        ("a: b: c", "mapping values are not allowed here in line 1"),
        ("? [a]\n: 1", "found unhashable key in line 1"),
        ("a\x00", "unacceptable character"),
        ("!!int x", "invalid literal"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_what_is_no_yaml(text: str, says: str) -> None:
    with pytest.raises(BadYaml, match=says) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, RefusedYaml)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("\ufeffa: é".encode())
    assert read_yaml(path) == {"a": "é"}
    for data, says in ((b"a: 1\nb: \xe9", "line 2 is not UTF-8 text"), (b"# " * LONGEST, "it is longer than")):
        path.write_bytes(data)
        with pytest.raises(BadYaml, match=says):
            read_yaml(path)
    with pytest.raises(BadYaml, match="it is a folder"):
        read_yaml(tmp_path)
    with pytest.raises(BadYaml, match="it is not a regular file"):
        read_yaml(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "gone.yaml")


def test_a_large_file_is_read_within_seconds(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("grid:\n  seed: [" + ", ".join(map(str, range(100_000))) + "]\n")
    assert len(read_yaml(path)["grid"]["seed"]) == 100_000
