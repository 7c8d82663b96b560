"""Registries: names, dotted paths, and what is said where either leads nowhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.system.registry import Registry, import_dotted, is_dotted

ROOT = Path(__file__).parents[2]


@pytest.fixture
def numbers() -> Registry[int]:
    registry: Registry[int] = Registry("number", "a whole number", lambda thing: isinstance(thing, int))
    registry.register("two", 2)
    registry.register("seven", 7)
    return registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that writes a module of a package in the working directory and returns the package's name."""
    name = f"package_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def write(module: str, text: str) -> str:
        (tmp_path / name / f"{module}.py").write_text(text)
        return name

    yield write
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == name]:
        del sys.modules[loaded]


def test_names_come_back_in_their_order(numbers):
    assert list(numbers) == ["two", "seven"]
    assert len(numbers) == 2
    assert numbers.find("seven") == numbers["seven"] == 7
    assert "eight" not in numbers


def test_an_unknown_name_is_told_the_nearest(numbers):
    with pytest.raises(UserError, match=r"unknown number 'sevn' \(did you mean 'seven'\?\); known: two, seven"):
        numbers.find("sevn")


def test_a_taken_name_is_refused_and_keeps_its_thing(numbers):
    with pytest.raises(UserError, match="there is a number 'two' already; register this one under another name"):
        numbers.register("two", 22)
    assert numbers.find("two") == 2


@pytest.mark.parametrize("name", ["", "  ", "a:b", "a\nb"])
def test_a_name_that_is_none_is_refused(numbers, name):
    with pytest.raises(UserError, match="a number needs a name without a colon"):
        numbers.register(name, 3)


def test_a_thing_of_another_kind_is_refused(numbers):
    with pytest.raises(UserError, match="number 'pi' must be a whole number, but is a float"):
        numbers.register("pi", 3.14)


def test_a_dotted_path_leads_into_the_working_directory(numbers, package):
    name = package("things", "from . import rest\nclass Box:\n    three = 3\n")
    package("rest", "")
    assert numbers.find(f"{name}.things:Box.three") == 3
    assert "Box" not in numbers


def test_the_working_directory_shadows_nothing_installed(numbers, package, tmp_path):
    (tmp_path / "safetensors.py").write_text("raise RuntimeError('shadowed')")
    package("things", "")
    assert callable(import_dotted("thing", "safetensors:safe_open"))


@pytest.mark.parametrize(
    ("text", "attribute", "said"),
    [
        ("four = 4", "five", r"number '(\w+)\.things:five': \1\.things has no 'five'"),
        ("five = 5", "fife", r"has no 'fife' \(did you mean 'five'\?\)"),
        ("five = '5'", "five", r"number '\w+\.things:five' must be a whole number, but is a str"),
        ("import nowhere_at_all", "x", r"importing \w+\.things fails \(ModuleNotFoundError: No module named 'nowhere"),
        ("1 / 0", "x", r"importing \w+\.things fails \(ZeroDivisionError: division by zero\); mend it"),
        ("def f(:", "x", r"importing \w+\.things fails \(SyntaxError: "),
        ("raise SystemExit(3)", "x", r"importing \w+\.things fails \(SystemExit: 3\)"),
    ],
)
def test_what_a_module_lacks_is_said(numbers, package, text, attribute, said):
    name = package("things", text)
    with pytest.raises(UserError, match=said):
        numbers.find(f"{name}.things:{attribute}")


def test_a_missing_module_is_said(numbers, package):
    name = package("things", "")
    with pytest.raises(UserError, match=rf"there is no module {name}\.nets; install the package that has it, or run"):
        numbers.find(f"{name}.nets:x")
    with pytest.raises(UserError, match=r"number 'missing_package\.nets:x': there is no module missing_package; "):
        numbers.find("missing_package.nets:x")


def test_a_module_may_raise_a_sentence_of_its_own(numbers, package):
    name = package("things", "from distill.errors import UserError\nraise UserError('only on Tuesdays')")
    with pytest.raises(UserError, match=r"^only on Tuesdays$"):
        numbers.find(f"{name}.things:x")


def test_what_a_dotted_path_is():
    assert is_dotted("a:b")
    assert is_dotted("a.b_2:C.d")
    assert not any(map(is_dotted, ("pong", "hf://org/repo", "runs/a:b", "a.b", "a:", ":b", "a:b:c", "C:\\x", "2a:b")))


def test_an_installed_script_finds_the_working_directory(tmp_path):
    """A console script's ``sys.path`` has its own folder in the working directory's place."""
    (tmp_path / "mine.py").write_text("five = 5")
    (script := tmp_path / "bin" / "script.py").parent.mkdir()
    script.write_text("from distill.system.registry import import_dotted\nprint(import_dotted('number', 'mine:five'))")
    ran = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ran.stdout == "5\n", ran.stderr


def test_the_toolkits_own_are_modules_of_a_package(package):
    for name in ("one", "two"):
        made = f"import types\nLETTER = types.SimpleNamespace(name='{name}')\n"
        folder = package(name, made)
    package("other", "raise_nothing = True\n")
    sys.path.append("")
    letters: Registry[object] = Registry("letter", "a letter", lambda thing: hasattr(thing, "name"), (folder, "LETTER"))
    assert f"{folder}.one" not in sys.modules, "nothing is imported before somebody asks"
    with pytest.raises(UserError, match="there is a letter 'two' already"):
        letters.register("two", letters)
    assert list(letters) == ["one", "two"]
    assert letters.find("one") is sys.modules[f"{folder}.one"].LETTER
