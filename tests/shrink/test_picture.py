"""The picture is drawn of whatever there is."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from distill.report.plots import PALETTE
from distill.shrink.ladder import Rung
from distill.shrink.picture import picture

Make = Callable[..., Rung]


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def count(png: bytes, colour: str) -> int:
    """Pixels of a colour, in each third of the picture at least; 0 where one third has none."""
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    near = (np.abs(pixels(png)[120:].astype(int) - wanted) < 24).all(-1)
    return min(int(part.sum()) for part in np.array_split(near, 3, axis=1))


def test_every_panel_shows_every_precision(rung: Make) -> None:
    teacher = rung("teacher", weights=1_687_206, score=(20, 19.5, 20.5), pytorch_us=(300, 290, 320))
    whole = [rung(name, weights=w, pytorch_us=(u, u - 9, u + 9), score=(s, s - 1, s + 1)) for name, w, u, s in
             (("rusu-4", 61_174, 166, 18), ("rusu-1", 16_446, 154, 12))]  # fmt: skip
    small = [rung(name, "int8", weights=w, bytes=w, score=(s, s - 1, s + 1), onnxruntime_us=(u, u - 1, u + 2))
             for name, w, u, s in (("rusu-4", 61_174, 60, 17.5), ("rusu-1", 16_446, 56, 11))]  # fmt: skip
    both, one = picture([teacher, *whole, *small], -20.4, "pong"), picture([teacher, *whole], -20.4, "pong")
    assert count(both, PALETTE[0]) > 200
    assert count(both, PALETTE[1]) > 200
    assert count(one, PALETTE[1]) == 0


def test_one_rung_without_times_or_shares_is_drawn(rung: Make) -> None:
    nothing = {"share": (None,) * 3, "onnxruntime_us": (None,) * 3}
    png = picture([rung("teacher", score=(-20.0, -20.0, -20.0), **nothing), rung("rusu-1", **nothing)], -20.0, "pong")
    assert pixels(png).shape[2] == 3


def test_a_wide_interval_does_not_flatten_the_picture(rung: Make) -> None:
    teacher = rung("teacher", weights=1_687_206, score=(20, 19.5, 20.5), pytorch_us=(300, 290, 320))
    wide = rung("rusu-1", weights=16_446, pytorch_us=(154, 150, 160), score=(0, -300, 300))
    small = [rung(name, "int8", weights=w, bytes=w, score=(s, s - 1, s + 1), onnxruntime_us=(u, u - 1, u + 2))
             for name, w, u, s in (("rusu-4", 61_174, 60, 18), ("rusu-1", 16_446, 56, 0))]  # fmt: skip
    wanted = np.array([int(PALETTE[1][place : place + 2], 16) for place in (1, 3, 5)])
    png = pixels(picture([teacher, wide, *small], -20.4, "pong"))[120:]
    rows = np.flatnonzero((np.abs(png.astype(int) - wanted) < 24).all(-1).any(1))
    assert rows.max() - rows.min() > 0.25 * len(png)
