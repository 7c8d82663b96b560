"""Layers that the fast engine knows, a file each."""

from distill.networks.layers.layer import known
from distill.networks.layers.recu import ReCU

__all__ = ["ReCU", "known"]
