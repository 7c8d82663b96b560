"""What a network computes, but for its numbers."""

from __future__ import annotations

from typing import Any

from torch import nn

PLAIN = (bool, int, float, str, tuple, type(None))
"""Settings of a layer; of anything else only the class is compared."""


def makeup(net: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Of every module, by name: its class, settings, shapes of its parameters, and number of hooks."""
    return {
        name: (
            type(module),
            {
                key: value if isinstance(value, PLAIN) else type(value)
                for key, value in vars(module).items()
                if not key.startswith("_") and key != "training"
            },
            {key: tensor.shape for key, tensor in module.named_parameters(recurse=False)},
            len(module._forward_hooks) + len(module._forward_pre_hooks),
        )
        for name, module in net.named_modules(remove_duplicate=False)
    }
