from __future__ import annotations

import pytest

from distill.system.progress import Bar, console, print_table


@pytest.mark.parametrize("name", ["[red]x", "a[/x]", "runs/[seed]/[bold]", ":smile:x"])
def test_names_are_printed_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.print(f"written: {name}")
    assert capsys.readouterr().out == f"written: {name}\n"
    print_table(name, (name, ""), [(name, "1")])
    assert capsys.readouterr().out.count(name) == 3
    with Bar(name, "steps", 1) as bar:
        bar.update(1, name)
    assert capsys.readouterr().out == f"{name}  1/1 steps  {name}\n"
