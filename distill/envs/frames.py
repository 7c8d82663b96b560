"""From the emulator's colour screen to the gray frame that an agent sees."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from distill.envs.presets import Luma, Preset

UInt8Array = npt.NDArray[np.uint8]
INTERPOLATION = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}
WEIGHTS: dict[Luma, tuple[float, float, float]] = {
    "bt709": (0.2126, 0.7152, 0.0722),
    "async-rl": (0.2126, 0.0722, 0.7152),
}


def converter(preset: Preset) -> Callable[[UInt8Array, UInt8Array], None]:
    """A function that turns a screen, uint8 (H, W, 3), RGB, into a frame, written to uint8 (84, 84)."""
    size, interpolation = (preset.frame_size, preset.frame_size), INTERPOLATION[preset.resize]

    def convert(screen: UInt8Array, out: UInt8Array) -> None:
        cv2.resize(to_gray(screen, preset.luma), size, dst=out, interpolation=interpolation)

    return convert


def to_gray(screen: UInt8Array, luma: Luma) -> UInt8Array:
    """A colour screen, uint8 (H, W, 3), RGB, in gray, uint8 (H, W)."""
    if luma == "bt601":
        gray = np.empty(screen.shape[:2], np.uint8)
        cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY, dst=gray)
        return gray
    red, green, blue = WEIGHTS[luma]
    # In double precision, in this order, and cut off, as those who use it write it: (56, 56, 56) may become 55.
    weighted = screen[..., 0] * red + screen[..., 1] * green + screen[..., 2] * blue
    cut: UInt8Array = weighted.astype(np.uint8)
    return cut
