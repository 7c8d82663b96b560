"""Every block of code in the pages is one that works: compiled and type-checked, or read by the real parsers."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from distill.cli import command as cli
from distill.cli import configs, export, info, pull, push, verify
from distill.system.yaml_text import load_yaml

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE))
STAGE_OF = dict(
    re.findall(r"^(\w+): \$\(VENV\)/\.runtime[^\n]*\n\t\$\(DISTILL\) (\w+) --config \$\(CONFIG\)", MAKEFILE, re.M)
)
OTHERS = {"git", "cd", "python3", "pip", ".venv/bin/pip", ".venv/bin/python", "export"}
"""Programs that are not ours: only that they are known is checked."""
TYPES = {
    "net": "torch.nn.Module", "x": "torch.Tensor", "pixels": "torch.Tensor", "teacher_logits": "torch.Tensor",
    "v": "torch.Tensor", "vjp": "torch.Tensor", "weight": "float", "s": "float", "index": "np.ndarray[Any, Any]",
}  # fmt: skip
"""Names that the words around a block introduce."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text[: found.start()].count("\n") + 1, found[2], textwrap.dedent(found[3]))
        for found in re.finditer(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
BY_LANGUAGE = {name: [block for block in BLOCKS if block.language == name] for name in ("python", "sh", "yaml", "json")}


def test_every_block_says_what_it_is() -> None:
    assert [str(block) for block in BLOCKS if block.language not in {*BY_LANGUAGE, "text"}] == []
    assert all(page.read_text().count("\n```") % 2 == 0 for page in PAGES)
    assert len(BY_LANGUAGE["python"]) >= 3
    assert len(BY_LANGUAGE["sh"]) >= 5


def undefined(tree: ast.Module) -> list[str]:
    """Names that a block uses and does not define."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    defined = {node.id for node in names if isinstance(node.ctx, ast.Store)} | vars(builtins).keys()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
    return sorted({node.id for node in names} - defined)


@pytest.mark.slow
def test_python_blocks_pass_the_type_checker(tmp_path: Path) -> None:
    """In one call, with the project's own settings: a wrong name, argument or type is an error."""
    for number, block in enumerate(BY_LANGUAGE["python"]):
        names = [f"{name}: {TYPES[name]}" for name in undefined(ast.parse(block.text, str(block)))]
        head = ["from typing import Any", "import numpy as np", "import torch", *names]
        (tmp_path / f"block_{number}.py").write_text("\n".join([*head, f"# {block}", block.text]))
    files = sorted(map(str, tmp_path.glob("block_*.py")))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--allow-untyped-calls",
         "--no-warn-unused-ignores", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", BY_LANGUAGE["python"], ids=str)
def test_python_blocks_compile_and_name_what_is_there(block: Block) -> None:
    compile(block.text, str(block), "exec")
    assert set(undefined(ast.parse(block.text))) <= set(TYPES)
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("distill", "teachers")):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def commands(text: str) -> list[list[str]]:
    """Words of every command of a shell block."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [line for line in words if line]


def check(words: list[str]) -> None:
    """Read a command as it would be read, without running it."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, *rest = words
    if "distill.cli" in rest:
        program, rest = "distill", rest[rest.index("distill.cli") + 1 :]
    if program == "distill":
        assert rest[0] in {*cli.STAGES, *cli.TOOLS}, rest[0]
        if rest[0] in cli.STAGES:
            cli.given(rest[0], rest[1:])
        else:
            assert cli.main(rest) == 0
    elif program == "make":
        given = dict(word.split("=", 1) for word in rest if "=" in word)
        asked = [word for word in rest if "=" not in word]
        assert set(asked) <= TARGETS, f"the Makefile lacks {set(asked) - TARGETS}"
        stage = STAGE_OF.get(asked[0])
        if stage:
            cli.given(
                stage, ["--config", given.get("CONFIG", "configs/pong.yaml"), *shlex.split(given.get("ARGS", ""))]
            )
    elif program in ("python", ".venv/bin/python") and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]) is not None, rest[1]
    else:
        assert program in OTHERS or (ROOT / program).is_file(), program


@pytest.fixture
def only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small commands parse their words and then do nothing: what they would work on is not here."""
    monkeypatch.chdir(ROOT)
    for module in (configs, export, info, pull, push, verify):
        monkeypatch.setattr(module, "run", lambda args: None)


@pytest.mark.usefixtures("only_read")
@pytest.mark.parametrize("block", BY_LANGUAGE["sh"], ids=str)
def test_shell_blocks_are_commands(block: Block) -> None:
    found = commands(block.text)
    assert found
    for words in found:
        check(words)


@pytest.mark.usefixtures("only_read")
def test_a_wrong_command_would_be_noticed() -> None:
    for line in ("distill colect", "distill train --train.step=3", "make colect", 'make collect ARGS="--collect.x=1"'):
        with pytest.raises((AssertionError, cli.UserError)):
            check(shlex.split(line))
    with pytest.raises(cli.UserError):
        check(["make", "sweep", "CONFIG=configs/none.yaml"])


def test_commands_within_a_line_exist() -> None:
    """`make X` and `distill X` anywhere in the prose, placeholders and all."""
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for program, name in re.findall(r"`(make|distill) +([a-z][\w-]*)(?![\w|])", prose):
            known = TARGETS if program == "make" else {*cli.STAGES, *cli.TOOLS}
            assert name in known, f"{page.relative_to(ROOT)}: `{program} {name}`"


@pytest.mark.parametrize("block", BY_LANGUAGE["yaml"], ids=str)
def test_yaml_blocks_are_settings(block: Block, tmp_path: Path) -> None:
    assert isinstance(load_yaml(block.text), dict)
    (tmp_path / "block.yaml").write_text(block.text)
    cli.given("train", ["--config", str(tmp_path / "block.yaml")])


@pytest.mark.parametrize("block", BY_LANGUAGE["json"], ids=str)
def test_json_blocks_are_json(block: Block) -> None:
    json.loads(block.text)
