"""What a network's weights are known by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def fingerprint(state: Mapping[str, Tensor], *extra: str) -> str:
    """Hex SHA-256 of named tensors, independent of file format and key order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    for text in extra:
        digest.update(text.encode())
    return digest.hexdigest()
