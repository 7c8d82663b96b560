from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from distill.figures.saliency import Saliency
from distill.records.scores import Scores
from distill.report import plots as figures
from distill.report.plots import DARK, LIGHT, Curve, Theme
from tests.fixtures.records import agent_scores
from tests.fixtures.records import scores as of_agents

RNG = np.random.default_rng(0)


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    assert len(png) <= 300_000
    return image


def has_colour(image: Image.Image, hexadecimal: str) -> bool:
    wanted = np.array([int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(np.asarray(image.convert("RGB")).astype(int) - wanted).max(-1) <= 6).any())


def scores(**means: float) -> Scores:
    agents = {}
    for name, mean in means.items():
        kind = "teacher" if name == "teacher" else "student"
        agents[name] = agent_scores(kind, mean, 2.0, returns=list(RNG.normal(mean, 4, 32)))
    return of_agents(agents)


def looks(rows: int, *students: str, teacher: bool = True) -> Saliency:
    """Busy pictures: smoothed noise over tiles of every gray."""
    noise = gaussian_filter(RNG.random((len(students) + 1, rows, 84, 84)), (0, 0, 1.5, 1.5))
    maps = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    return Saliency(
        frames=RNG.integers(0, 256, (rows, 14, 14), dtype=np.uint8).repeat(6, 1).repeat(6, 2),
        actions=["RIGHTFIRE"] * rows,
        probabilities=RNG.random(rows),
        teacher=maps[0] if teacher else None,
        students=dict(zip(students, maps[1:], strict=True)),
        cosines={name: RNG.uniform(-1, 1, rows) for name in students} if teacher else {},
    )


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_returns_shows_every_agent_in_its_colour(theme: Theme) -> None:
    record = scores(teacher=20.0, a=5.0, b=-10.0)
    image = opened(figures.returns(record, theme))
    for colour in (theme.background, theme.ink, figures.PALETTE[0], figures.PALETTE[1]):
        assert has_colour(image, colour)
    assert not has_colour(image, figures.PALETTE[2])
    assert image.width >= 2 * 500, "sharp on a dense screen"


def test_returns_grows_with_agents_and_survives_one_game_and_odd_names() -> None:
    few = opened(figures.returns(scores(teacher=20.0), LIGHT))
    many = opened(figures.returns(scores(**{f"$x_{i}$ <b>": 1.0 * i for i in range(9)}), LIGHT))
    assert many.height > few.height + 500
    single = scores(a=3.0)
    single = replace(single, agents={"a": replace(single.agents["a"], returns=[3.0], ci95=(3.0, 3.0))})
    opened(figures.returns(single, LIGHT))
    opened(figures.returns(replace(single, game="adventure"), LIGHT))


@pytest.mark.parametrize("options", [{"log": True}, {"percent": True}, {}])
def test_learning_curve(options: dict[str, bool]) -> None:
    curves = {
        "plain": Curve([500, 1000, 1500], [0.5, 0.06, 0.03], best_step=1500),
        "pong__mnih2013__kl-sobolev0.01__1__1795461513": Curve([500, 1000], [0.4, 0.05], best_step=250),
    }
    colour = dict(zip(curves, figures.PALETTE, strict=False))
    image = opened(figures.learning_curve(curves, colour, "KL, nats", LIGHT, **options))
    assert has_colour(image, figures.PALETTE[0])
    assert has_colour(image, figures.PALETTE[1])


def test_learning_curve_rings_the_best_checkpoint() -> None:
    def dark_pixels(best: int) -> int:
        curve = {"a": Curve([500, 1000], [0.4, 0.05], best_step=best)}
        image = opened(figures.learning_curve(curve, {"a": figures.PALETTE[0]}, "KL", LIGHT))
        return int((np.asarray(image.convert("L")) < 250).sum())

    assert dark_pixels(1000) > dark_pixels(999) + 50


@pytest.mark.parametrize("students", [("a",), ("a", "b", "c"), tuple("abcdefgh")])
def test_saliency_grid_stays_small(students: tuple[str, ...]) -> None:
    image = opened(figures.saliency_grid(looks(5, *students), LIGHT))
    assert image.width >= 84 * (len(students) + 2)


def test_saliency_grid_has_a_column_less_without_a_teacher() -> None:
    image = opened(figures.saliency_grid(looks(2, "a"), DARK))
    narrow = opened(figures.saliency_grid(looks(2, "a", teacher=False), DARK))
    assert narrow.width == pytest.approx(image.width * 2 / 3, abs=2)


def test_colours_of_teachers_are_those_of_text() -> None:
    chosen = figures.colours(scores(teacher=1.0, a=2.0, b=3.0).agents, DARK)
    assert chosen == {"teacher": DARK.ink, "a": figures.PALETTE[0], "b": figures.PALETTE[1]}


def test_wrapped_breaks_a_run_folders_name_at_its_joints() -> None:
    assert figures.wrapped("pong__mnih2013__kl__1", 12) == "pong ·\nmnih2013 ·\nkl · 1"
    assert figures.wrapped("kl", 12) == "kl"
