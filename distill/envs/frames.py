"""From the emulator's colour screen to the gray frame that an agent sees."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from distill.envs.presets import Luma, Padding, Preset

UInt8Array = npt.NDArray[np.uint8]
INTERPOLATION = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}
WEIGHTS: dict[Luma, tuple[float, float, float]] = {
    "bt709": (0.2126, 0.7152, 0.0722),
    "async-rl": (0.2126, 0.0722, 0.7152),
    "gymnasium": (0.2125, 0.7154, 0.0721),
}


def converter(preset: Preset) -> Callable[[UInt8Array, UInt8Array], None]:
    """A function that turns a screen, uint8 (H, W, 3), RGB, into a frame, written to uint8 (84, 84)."""
    size, interpolation = (preset.frame_size, preset.frame_size), INTERPOLATION[preset.resize]

    def convert(screen: UInt8Array, out: UInt8Array) -> None:
        cv2.resize(to_gray(screen, preset.luma), size, dst=out, interpolation=interpolation)

    def convert_small(screen: UInt8Array, out: UInt8Array) -> None:
        out[:] = to_gray(cv2.resize(screen, size, interpolation=interpolation), preset.luma)  # type: ignore[arg-type]

    return convert_small if preset.resize_first else convert


def put_newest(stacks: UInt8Array, newest: UInt8Array, fresh: npt.NDArray[np.bool_], padding: Padding) -> None:
    """Put the newest frames on shifted stacks, of which some begin anew.

    Args:
        stacks: uint8 (N, frame_stack, 84, 84), oldest frame first, whose last frames are written.
        newest: uint8 (N, 84, 84).
        fresh: bool (N,), the stack begins anew.
        padding: what then stands before its first frame.
    """
    stacks[fresh] = 0 if padding == "zero" else newest[fresh][:, None]
    stacks[:, -1] = newest


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
