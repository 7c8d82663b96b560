"""Names of agents: what an item of ``evaluate.agents`` means, and which names can be files."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.agents.names import check_apart, check_commas, check_name, default_name, split_item
from distill.errors import UserError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "seed=2", "lr=0.001,seed=2", "t/seed=2", "teacher=breakout"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "t" / "seed=2" / "pong.zip").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("item", "name", "what"),
    [
        ("teacher", "", "teacher"),
        ("seed=2", "", "seed=2"),
        ("lr=0.001,seed=2", "", "lr=0.001,seed=2"),
        ("t/seed=2/pong.zip", "", "t/seed=2/pong.zip"),
        ("mine=t/seed=2/pong.zip", "mine", "t/seed=2/pong.zip"),
        ("a=b=plain", "a=b", "plain"),
        ("a=seed=2", "a", "seed=2"),
        ("lr=0.1=lr=0.001,seed=2", "lr=0.1", "lr=0.001,seed=2"),
        ("mine=teacher", "mine", "teacher"),
        ("mine=pong-ppo", "mine", "pong-ppo"),
        ("mine=hf://sb3/ppo=x", "mine", "hf://sb3/ppo=x"),
        ("teacher=breakout", "", "teacher=breakout"),
        ("mine=gone.zip", "mine", "gone.zip"),
        ("t/seed=3/gone.zip", "", "t/seed=3/gone.zip"),
        ("techer", "", "techer"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_an_item_means(item: str, name: str, what: str) -> None:
    assert split_item(item) == (name, what)


def test_paths_may_be_absolute(here: Path) -> None:
    assert split_item(f"{here}/t/seed=2/pong.zip") == ("", f"{here}/t/seed=2/pong.zip")
    assert split_item(f"x={here}/lr=0.001,seed=2") == ("x", f"{here}/lr=0.001,seed=2")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "it is empty"),
        (".", "folder of its own"),
        ("..", "folder of its own"),
        ("a/b", "a slash"),
        ("/", "a slash"),
        ("scores.json", "a file of the results"),
        ("Scores.JSON", "a file of the results"),
        ("scores.partial.json", "a file of the results"),
        ("a\nb", "cannot be printed"),
        ("a\0", "cannot be printed"),
        ("\x1b[31m", "cannot be printed"),
        ("x" * 101, "more than 100 bytes"),
        ("ä" * 51, "more than 100 bytes"),
        ("\udcff", "cannot be printed"),
    ],
)
def test_names_that_cannot_be_files(name: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        check_name(name)
    check_name(default_name(name))


@pytest.mark.parametrize("name", ["lr=0.001,seed=2", "pong__kl-sobolev0.01__1", "a b", "ä" * 50, "...", "x.json"])
def test_names_that_can_are_left_alone(name: str) -> None:
    check_name(name)
    assert default_name(name) == name


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a", "b", "a"], "two agents are called 'a'; rename one"),
        (["A", "a"], "agents 'A' and 'a' may be one file; rename one"),
        (["\xfc", "u\u0308"], "agents .* may be one file"),
        (["stra\xdfe", "STRASSE"], "agents .* may be one file"),
    ],
)
def test_names_that_some_file_systems_take_for_one(names: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_apart(names)
    check_apart(["a", "b", "A b"])


def test_long_names_stay_apart() -> None:
    a, b = default_name("x" * 200 + "a"), default_name("x" * 200 + "b")
    assert a != b
    assert a.startswith("x" * 91)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("items", [["lr=0.001", "seed=2"], ["teacher", "x=lr=0.001", "seed=2"]])
def test_a_comma_that_the_command_line_took_for_its_own_is_named(items: list[str]) -> None:
    if "teacher" not in items:
        (Path("seed=2")).rmdir()
    with pytest.raises(UserError, match=r"lr=0\.001,seed=2 has a comma in its name; put it in quotes"):
        check_commas(items)
    check_commas(["teacher", "plain", "lr=0.001,seed=2"])
