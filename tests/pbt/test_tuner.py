"""Jaderberg et al. 2017, figure 2: a surrogate that half sees the quadratic, and a population that sees it whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.pbt.settings import PbtConfig
from distill.pbt.tuner import Search, search
from tests.fixtures.ray_cluster import Nodes

FIRST = ({"h0": 1.0, "h1": 1e-3}, {"h0": 1e-3, "h1": 1.0})
ROUNDS, STEPS, RATE = 8, 10, 0.1


def make_toy() -> type:
    """Ascends 1.2 - h0 w0^2 - h1 w1^2 and reports how far it is below 1.2 on the true 1.2 - w0^2 - w1^2."""
    from ray import tune

    base: Any = tune.Trainable

    class Toy(base):  # type: ignore[misc]
        def setup(self, config: dict[str, float]) -> None:
            self.w = [0.9, 0.9]

        def step(self) -> dict[str, float]:
            for _ in range(STEPS):
                self.w = [w - RATE * 2 * self.config[f"h{number}"] * w for number, w in enumerate(self.w)]
            return {"val_kl": sum(w * w for w in self.w)}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            (Path(checkpoint_dir) / "w.json").write_text(json.dumps(self.w))

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            self.w = json.loads((Path(checkpoint_dir) / "w.json").read_text())

        def reset_config(self, new_config: dict[str, float]) -> bool:
            self.w = [0.9, 0.9]
            return True

    return Toy


def quality(folder: Path, **settings: Any) -> list[float]:
    """The best Q so far after every result, of both members."""
    space = {name: [0.1, 1.0] for name in ("h0", "h1")}
    p = PbtConfig(members=2, space=space, quantile_fraction=0.5, resample_probability=0.5, **settings)
    found: list[float] = []

    def watch(result: Mapping[str, Any]) -> None:
        found.append(max([1.2 - result["val_kl"], *found[-1:]]))

    search(make_toy(), Search(p, ROUNDS, 0, folder, FIRST), watch)
    assert len(found) == 2 * ROUNDS
    return found


def test_exploitation_combines_what_each_member_knows(nodes: Nodes, tmp_path: Path) -> None:
    alone = quality(tmp_path / "random", scheduler="random")
    together = quality(tmp_path / "pbt")
    assert alone[-1] < 1.2 - 0.9**2 + 0.05, "one direction stays where it was"
    assert together[-1] > 1.1, "the optimum is 1.2"


def test_what_one_member_is_refused_ends_all(nodes: Nodes, tmp_path: Path) -> None:
    from ray import tune

    base: Any = tune.Trainable

    class Refused(base):  # type: ignore[misc]
        def step(self) -> dict[str, Any]:
            return (
                {"val_kl": 1e30, "refused": "the data are gone; bring them back"}
                if self.config["h"] < 0.5
                else {"val_kl": 1.0}
            )

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            (Path(checkpoint_dir) / "nothing").touch()

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            assert (Path(checkpoint_dir) / "nothing").exists()

        def reset_config(self, new_config: dict[str, float]) -> bool:
            return True

    how = Search(PbtConfig(members=2, space={"h": [0.1, 1.0]}), 3, 0, tmp_path, ({"h": 0.9}, {"h": 0.2}))
    with pytest.raises(UserError, match=r"^the data are gone; bring them back$"):
        search(Refused, how, lambda result: None)
