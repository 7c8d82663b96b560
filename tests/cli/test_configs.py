from __future__ import annotations

from pathlib import Path

import pytest

from distill.cli.command import main, parse
from distill.cli.configs import bundled

TOP = Path(__file__).parents[2] / "configs"


def test_they_are_the_files_of_the_top_folder() -> None:
    assert bundled() == {path.stem: path.read_text() for path in sorted(TOP.glob("*.yaml"))}
    assert len(bundled()) > 5


def test_without_a_name_all_are_listed_with_a_sentence_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines[: lines.index("")])
    assert listed.keys() == bundled().keys()
    assert listed["base"] == "Every setting with its default"
    assert all(len(text) > 10 for text in listed.values())


@pytest.mark.parametrize(("words", "path"), [
    (["demo"], "demo.yaml"),
    (["demo.yaml"], "demo.yaml"),
    (["demo", "mine.yaml"], "mine.yaml"),
    (["demo", "there"], "there/demo.yaml"),
    (["demo", "new/mine.yaml"], "new/mine.yaml"),
])  # fmt: skip
def test_one_is_copied_and_can_be_used(
    words: list[str], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert main(["configs", *words]) == 0
    assert f"--config {path}" in capsys.readouterr().out
    assert (tmp_path / path).read_bytes() == (TOP / "demo.yaml").read_bytes()
    assert parse("train", ["--config", path]) == parse("train", ["--config", str(TOP / "demo.yaml")])


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").write_text("seed: 5\n")
    assert main(["configs", "demo"]) == 1
    assert "demo.yaml exists; name another file" in capsys.readouterr().err
    assert (tmp_path / "demo.yaml").read_text() == "seed: 5\n"


def test_a_folder_that_is_not_there_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "demo", f"{tmp_path}/new/"]) == 1
    said = f"error: {tmp_path}/new/ is a folder; name a file in it, as {tmp_path}/new/demo.yaml\n"
    assert capsys.readouterr().err == said
    (tmp_path / "new").mkdir()
    assert main(["configs", "demo", f"{tmp_path}/new/"]) == 0
    assert (tmp_path / "new" / "demo.yaml").is_file()


def test_a_misspelt_name_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "brakout"]) == 1
    assert "no settings file 'brakout' (did you mean 'breakout'?); known: base, " in capsys.readouterr().err
