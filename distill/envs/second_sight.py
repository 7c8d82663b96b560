"""What an agent of another preset sees of a game that is played under the first: a second stack of the same screens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from distill.envs.frames import converter, put_newest
from distill.envs.presets import Preset
from distill.errors import UserError

UInt8Array = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


def refuse_other_screens(preset: Preset, recorded: Preset) -> None:
    """Refuse two presets that need different screens of the emulator.

    Args:
        preset: of the second stack.
        recorded: whose game is played.
    """
    if preset.gray == recorded.gray:
        return
    kind = {"max-then-gray": "colour screens", "gray-then-max": "screens that were gray before their maximum"}
    raise UserError(
        f"a teacher of preset {preset.name} sees {kind[preset.gray]}, and preset {recorded.name} has only "
        f"{kind[recorded.gray]}; record with another --preset, or say with --teacher_preset={recorded.name} "
        "that the teacher sees those all the same"
    )


class SecondSight:
    """Stacks of another preset, from the screens of lanes that play under the first.

    Frames, FIRE, no-ops, frame skip and frame limit are those of the game that is played; every frame of it is seen,
    those of scripted steps included. Its own are the pixels and when a stack begins anew: at a game's start, or after
    the game's opening script where this preset has such a script itself; and after a lost life where it says so.

    Args:
        preset: what is seen.
        recorded: under which the lanes play.
        lanes: their number.
        has_fire: the game has FIRE.

    Raises:
        UserError: the first preset's screens do not do.
    """

    def __init__(self, preset: Preset, recorded: Preset, lanes: int, *, has_fire: bool) -> None:
        refuse_other_screens(preset, recorded)
        self.preset, self._convert = preset, converter(preset)
        self._colour = preset.gray == "max-then-gray"
        self._waits = preset.fire_reset and has_fire  # a game's first stack is the one after its script
        shape = (preset.frame_size, preset.frame_size)
        self.stacks = np.zeros((lanes, preset.frame_stack, *shape), np.uint8)
        """uint8 (N, frame_stack, 84, 84), a live buffer, written anew two steps later."""
        self._next = np.zeros_like(self.stacks)
        self._newest = np.zeros((lanes, *shape), np.uint8)
        self._due = np.zeros(lanes, bool)

    def prepare(self, first: int, frames: UInt8Array) -> None:
        """New screens, uint8 (n, 1, H, W[, 3]), of the lanes from ``first`` on."""
        for lane, frame in enumerate(frames[:, 0], first):
            if self._colour:
                self._convert(frame, self._newest[lane])
            else:
                self._newest[lane] = frame

    def begin(self, acting: Bools) -> None:
        """All lanes have new games: stacks begin anew. ``acting`` as in ``take``."""
        put_newest(self.stacks, self._newest, np.ones(len(self.stacks), bool), self.preset.padding_type)
        self._due[:] = ~acting if self._waits else False

    def shift(self) -> None:
        """Make room for the next frames."""
        self._next[:, :-1] = self.stacks[:, 1:]

    def take(self, over: Bools, life_lost: Bools, acting: Bools) -> None:
        """Put the new frames on the stacks, which must have been shifted.

        Args:
            over: bool (N,), the frame is the first of a new game.
            life_lost: bool (N,), a life, but not the game, was lost in this step.
            acting: bool (N,), no script plays the next step.
        """
        self._due |= over if self._waits else False
        self._due |= life_lost if self.preset.life_loss_reset else False
        fresh = acting & self._due if self._waits else over | acting & self._due
        self.stacks, self._next = self._next, self.stacks
        put_newest(self.stacks, self._newest, fresh, self.preset.padding_type)
        self._due &= ~acting
