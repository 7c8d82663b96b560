"""Packages that register things when they are imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distill.cli.command import main
from distill.errors import UserError
from distill.system.plugins import load_plugins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_named_modules_are_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first_plugin", "second_plugin"):
        (folder / f"{name}.py").touch()
    monkeypatch.setenv("DISTILL_PLUGINS", "first_plugin, second_plugin,")
    load_plugins()
    assert {"first_plugin", "second_plugin"} <= set(sys.modules)


def test_a_plugin_that_is_not_there_or_fails_is_said_on_the_command_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISTILL_PLUGINS", "absent_plugin")
    assert main(["--version"]) == 1
    assert "error: DISTILL_PLUGINS: there is no module absent_plugin; install" in capsys.readouterr().err
    (folder / "bad_plugin.py").write_text("1 / 0")
    monkeypatch.setenv("DISTILL_PLUGINS", "bad_plugin")
    with pytest.raises(UserError, match=r"DISTILL_PLUGINS: importing bad_plugin fails \(ZeroDivisionError"):
        load_plugins()


def test_entry_points_of_installed_packages_are_imported(folder: Path) -> None:
    (folder / "pointed_plugin.py").touch()
    (folder / "pointed-1.0.dist-info").mkdir()
    (folder / "pointed-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pointed\nVersion: 1.0\n")
    (folder / "pointed-1.0.dist-info" / "entry_points.txt").write_text("[distill.plugins]\nmine = pointed_plugin\n")
    load_plugins()
    assert "pointed_plugin" in sys.modules
