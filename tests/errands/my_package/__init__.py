"""What a user adds to the toolkit: one file for each thing, all registered when the package is imported."""

from my_package import agents, eyes, layers, nets

__all__ = ["agents", "eyes", "layers", "nets"]
