from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from distill.system.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_the_old_name_is_the_module_at_its_new_place(old: str) -> None:
    sys.modules.pop(old, None)
    new = importlib.import_module(MOVED[old])
    spec = new.__spec__
    with pytest.warns(DeprecationWarning, match=rf"^{old} has moved to {MOVED[old]}$"):
        assert importlib.import_module(old) is new
    assert new.__spec__ is spec
    assert new.__name__ == MOVED[old]


def test_names_of_what_became_packages() -> None:
    code = (
        "from distill.cli import main, parse; from distill.config import Config, TrainConfig, fill; "
        "from distill.students.nets import to_unit; from distill import files; "
        "import distill.api as api; assert Config is api.Config and TrainConfig is api.TrainConfig"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_what_was_never_there() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("distill.never")
    with pytest.raises(ImportError):
        from distill.config import never  # type: ignore[attr-defined] # noqa: F401
