"""Settings of a student's network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from distill.envs.ale_vec import MAX_LANES
from distill.errors import UserError
from distill.networks.inherit import refuse_start
from distill.networks.layers.layer import activations
from distill.networks.nets import NetSpec
from distill.networks.registry import find_network
from distill.system.ranges import POSITIVE, ZERO_OR_MORE, Range
from distill.system.settings import Section, require

CUT = Range("from 0 to below 1", 0, 1, without=(1,))
LANES = Range(f"between 1 and {MAX_LANES}", 1, MAX_LANES)


@dataclass(frozen=True)
class StudentConfig(Section):
    """The network that learns."""

    name: str = "mnih2013"
    """mnih2013, nature, nature-half, rusu-25, -7, -4, -1, a registered one, or package.module:callable."""
    convs: list[tuple[int, int, int]] | None = None
    """Replaces the named network's convolutions: [[channels, kernel, stride], ...]."""
    hidden: list[int] | None = None
    """Replaces the named network's dense widths."""
    activation: str = "relu"
    """Activation after every layer but the last."""
    band_limit: float | list[float] = 0.0
    """Share of the frequencies that convolutions leave out, for all or for each; 0 is an ordinary convolution."""
    noise: Literal["none", "white", "coloured"] = "none"
    """Noise of learned size on every layer but the last: none, white, or coloured (diagonal and rank 5)."""
    noise_on: Literal["weights", "activations"] = "weights"
    """What has the noise; on activations the fast engine does not know it, and autograd takes its place."""
    noise_at_play: bool = True
    """The noise is there after training, too: whoever plays, labels or attacks the student meets it."""
    init: str | None = None
    """Agent of the same network to start from: a student's run folder or a zip; by default random weights."""
    teacher_layers: int = 0
    """First convolutions that are the teacher's and stay as they are; a narrower one has its largest filters."""

    RANGES: ClassVar[Mapping[str, Range]] = {"band_limit": CUT, "teacher_layers": ZERO_OR_MORE}
    CHOICES: ClassVar[Mapping[str, Callable[[], Iterable[str]]]] = {"activation": activations}
    PLACES: ClassVar[tuple[str, ...]] = ("init",)
    NEEDS: ClassVar[Mapping[str, str]] = {"noise_on": "noise", "noise_at_play": "noise"}

    @property
    def in_folders(self) -> str:
        """The name as part of a folder's: without the colon of a dotted path."""
        return self.name.replace(":", ".")

    def options(self, convs: int) -> dict[str, Any]:
        """Fields of a NetSpec of so many convolutions that say which layers are no ordinary ones.

        Raises:
            UserError: another number of band limits.
        """
        cuts = self.band_limit if isinstance(self.band_limit, list) else [self.band_limit] * convs
        require(
            len(cuts) == convs, "--student.band_limit", cuts, f"one number, or one for each of {convs} convolutions"
        )
        found: dict[str, Any] = {"band_limit": tuple(map(float, cuts))} if any(cuts) else {}
        if self.noise != "none":
            found |= {"noise": self.noise, "noise_on": self.noise_on, "noise_at_play": self.noise_at_play}
        return found

    def check(self) -> None:
        """Refuse a network that is not known, and layers that cannot be."""
        found = find_network(self.name)
        if not isinstance(found, NetSpec):
            self._check_program()
        else:
            self._check_options(len(found.convs if self.convs is None else self.convs))
        require(
            all(width in POSITIVE for width in self.hidden or ()), "--student.hidden", self.hidden, "positive widths"
        )
        refuse_start(self.teacher_layers, self.init, "--student.init")
        numbers = [number for conv in self.convs or () for number in conv]
        require(all(number in POSITIVE for number in numbers), "--student.convs", self.convs, "positive numbers")

    def _check_options(self, convs: int) -> None:
        """Refuse band limits of other convolutions, and noise that no layer has."""
        options = self.options(convs)
        if "band_limit" in options and options.get("noise_on") == "activations":
            raise UserError(
                "--student.noise_on=activations is not made for band-limited convolutions; use weights, or leave "
                "--student.band_limit out"
            )

    def _check_program(self) -> None:
        """A network that a program builds has the layers that it builds."""
        usual = type(self)()
        for field in (field.name for field in dataclasses.fields(self)):
            if field not in ("name", "init") and getattr(self, field) != getattr(usual, field):
                raise UserError(
                    f"--student.{field} changes networks that are described by their layers, and {self.name} is built "
                    "by a program; leave it out"
                )
