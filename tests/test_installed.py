"""What a user has who installed a wheel: types, settings files, teachers, and the command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

PROGRAM = """
from distill.api import Config, load_student, sobolev_loss

reveal_type(Config().train.steps)
reveal_type(load_student("run"))
reveal_type(sobolev_loss)
steps: str = Config().train.steps
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment's folder with the wheel in it; libraries come from the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for name in ("distill", "teachers"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", source / "configs")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--disable-pip-version-check", "-q"]
    built = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(source)]
    subprocess.run(built, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=60)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv"


def run(installed: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python program of that environment, with nothing of this checkout on its path."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    program = [str(installed / "bin" / "python"), *words]
    return subprocess.run(program, cwd=cwd, env=clean, capture_output=True, text=True, timeout=600)


def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "-c", "import distill, teachers; print(distill.__file__, teachers.__file__)", cwd=tmp_path)
    assert all(Path(name).is_relative_to(installed) for name in done.stdout.split()), done


def test_settings_files_come_along(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, "-m", "distill.cli", "configs", cwd=tmp_path)
    assert re.findall(r"^[\w-]+(?=  )", listed.stdout, re.MULTILINE) == sorted(
        path.stem for path in (ROOT / "configs").glob("*.yaml")
    )
    assert run(installed, "-m", "distill.cli", "configs", "smoke", "mine.yaml", cwd=tmp_path).returncode == 0
    assert (tmp_path / "mine.yaml").read_bytes() == (ROOT / "configs" / "smoke.yaml").read_bytes()


def test_the_bundled_teacher_plays_with_a_copied_settings_file(installed: Path, tmp_path: Path) -> None:
    run(installed, "-m", "distill.cli", "configs", "debug", cwd=tmp_path)
    words = ["collect", "--config", "debug.yaml", "--device", "cpu", "--collect.states", "20", "--collect.out", "data"]
    done = run(installed, "-m", "distill.cli", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "dataset.json").exists()


def test_a_users_type_checker_sees_our_types(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    words = ["-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache" / "installed"), "program.py"]
    found = run(installed, *words, cwd=tmp_path).stdout
    revealed = re.findall(r'Revealed type is "(.*)"', found)
    assert len(revealed) == 3, found
    assert revealed[0] in ("int", "builtins.int")
    assert revealed[1] == "distill.students.folder.Student"
    assert "Any" not in revealed[2]
    assert 'Incompatible types in assignment (expression has type "int", variable has type "str")' in found
    assert found.rstrip().endswith("Found 1 error in 1 file (checked 1 source file)"), found
