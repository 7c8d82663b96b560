"""Settings of a student's network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from distill.envs.ale_vec import MAX_LANES
from distill.errors import UserError
from distill.networks.layers.layer import activations
from distill.networks.nets import NetSpec
from distill.networks.registry import find_network
from distill.system.ranges import POSITIVE, Range
from distill.system.settings import Section, require

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
    init: str | None = None
    """Run folder of a student of the same shape to start from; by default random weights."""

    CHOICES: ClassVar[Mapping[str, Callable[[], Iterable[str]]]] = {"activation": activations}
    PLACES: ClassVar[tuple[str, ...]] = ("init",)

    @property
    def in_folders(self) -> str:
        """The name as part of a folder's: without the colon of a dotted path."""
        return self.name.replace(":", ".")

    def check(self) -> None:
        """Refuse a network that is not known, and layers that cannot be."""
        if not isinstance(find_network(self.name), NetSpec):
            self._check_program()
        require(
            all(width in POSITIVE for width in self.hidden or ()), "--student.hidden", self.hidden, "positive widths"
        )
        numbers = [number for conv in self.convs or () for number in conv]
        require(all(number in POSITIVE for number in numbers), "--student.convs", self.convs, "positive numbers")

    def _check_program(self) -> None:
        """A network that a program builds has the layers that it builds."""
        usual = type(self)()
        for field in ("convs", "hidden", "activation"):
            if getattr(self, field) != getattr(usual, field):
                raise UserError(
                    f"--student.{field} changes networks that are described by their layers, and {self.name} is built "
                    "by a program; leave it out"
                )
