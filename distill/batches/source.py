"""Where batches come from: gathered on the host and sent to the device, or from a copy that the device holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.dataset.codec import scales
from distill.dataset.reader import Dataset
from distill.dataset.schema import FRAME
from distill.dataset.windowed import WindowedDataset
from distill.envs.presets import STACK
from distill.errors import UserError

Index = npt.NDArray[np.int64]


@dataclass
class States:
    """What a dataset stores of some states, on the training device."""

    obs: Tensor
    """uint8 (B, 4, 84, 84)."""
    logits: Tensor
    """The teacher's logits, float (B, A)."""
    v: Tensor | None = None
    """Stored projections of the states that carry derivatives, float (n, K, A)."""
    codes: Tensor | None = None
    """Stored derivatives, int8 or float16 (n, R, 4, 84, 84)."""
    scale: Tensor | None = None
    """What one code is worth, float (n, R, 4, 84)."""


class Source(Protocol):
    """Gives the states of a dataset."""

    def states(self, index: Index, *, carrying: int) -> States:
        """The states ``index`` (B,), the first ``carrying`` of them with their stored derivatives.

        Raises:
            UserError: derivatives of one of these are not stored.
        """


class Streamed:
    """Every batch is gathered by the CPU, from where the dataset has it, and sent."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device

    def states(self, index: Index, *, carrying: int) -> States:
        """See ``Source``."""
        states = States(self._send(self.dataset.stacks(index)), self._send(self.dataset.logits[index]))
        if carrying:
            stored, rows = self.dataset.jacobian(index[:carrying]), self.dataset.rows_of(index[:carrying])
            states.codes, states.scale = self._send(stored.codes), self._send(stored.scale)
            states.v = None if self.dataset.v is None else self._send(self.dataset.v[rows])
        return states

    def _send(self, array: npt.NDArray[np.generic]) -> Tensor:
        """To the device; by way of pinned memory on CUDA, so that this thread need not wait for the copy."""
        return _send(torch.from_numpy(array), self.device)


class Resident:
    """Frames and derivatives, as compact as they are stored, in the device's memory: a batch is its indices.

    Args:
        dataset: what to hold.
        device: where.
        derivatives: hold them too, where there are any.

    Raises:
        UserError: they do not fit.
    """

    def __init__(self, dataset: Dataset, device: torch.device, *, derivatives: bool) -> None:
        self.device, self.codec, self._rows_of = device, dataset.identity.codec, dataset.rows_of
        derivatives = derivatives and dataset.has_jacobian
        try:
            self._frames = _send(torch.from_numpy(dataset.frames).view(len(dataset.frames), -1), device)
            self._pos, self._logits = (_send(torch.from_numpy(part), device) for part in (dataset.pos, dataset.logits))
            self._context = torch.arange(1 - STACK, 1, device=device)
            self._codes = _joined(dataset, device) if derivatives else None
            wanted = (dataset.v, dataset.row_scale, dataset.gain) if derivatives else (None, None, None)
            self._v, self._row_scale, self._gain = (
                None if part is None else _send(torch.from_numpy(part), device) for part in wanted
            )
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{dataset.folder} takes {resident_bytes(dataset, derivatives=derivatives):,} bytes, "
                f"more than {device} has free; use --train.hold_data=memory"
            ) from error

    def states(self, index: Index, *, carrying: int) -> States:
        """See ``Source``."""
        chosen = _send(torch.from_numpy(index), self.device)
        rows = (self._pos[chosen][:, None] + self._context).flatten()
        obs = self._frames.index_select(0, rows).view(-1, STACK, *FRAME)
        states = States(obs, self._logits[chosen])
        if carrying:
            first = index[:carrying]
            own = self._rows_of(first)
            chosen = chosen[:carrying] if own is first else _send(torch.from_numpy(own), self.device)
            assert self._codes is not None
            assert self._row_scale is not None
            assert self._gain is not None
            states.codes = self._codes.index_select(0, chosen)
            states.scale = scales(self._row_scale[chosen], self._gain[chosen], self.codec)
            states.v = None if self._v is None else self._v[chosen]
        return states


def make_source(dataset: Dataset, device: torch.device, hold_data: str, *, derivatives: bool) -> Source:
    """The source that ``train.hold_data`` asks for; ``auto`` holds on a GPU what takes up to 70 % of what is free.

    Args:
        dataset: the data.
        device: training device.
        hold_data: ``auto``, ``device``, ``memory`` or ``disk``.
        derivatives: stored derivatives will be asked for.
    """
    if isinstance(dataset, WindowedDataset):
        return Streamed(dataset, device)
    if hold_data == "auto" and device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        hold_data = "device" if resident_bytes(dataset, derivatives=derivatives) < 0.7 * free else "memory"
    return Resident(dataset, device, derivatives=derivatives) if hold_data == "device" else Streamed(dataset, device)


def resident_bytes(dataset: Dataset, *, derivatives: bool) -> int:
    """What ``Resident`` holds, in bytes."""
    parts = [dataset.frames, dataset.pos, dataset.logits]
    if derivatives and dataset.has_jacobian:
        parts += [part for part in (dataset.v, dataset.row_scale, dataset.gain, *dataset.jacobians) if part is not None]
    return sum(part.nbytes for part in parts)


def _joined(dataset: Dataset, device: torch.device) -> Tensor:
    """All shards' derivatives in one tensor, sent one shard at a time."""
    first = dataset.jacobians[0]
    assert first is not None
    dtype = torch.from_numpy(np.empty(0, first.dtype)).dtype
    rows = sum(len(part) for part in dataset.jacobians if part is not None)
    whole = torch.empty((rows, *first.shape[1:]), dtype=dtype, device=device)
    start = 0
    for part in dataset.jacobians:
        assert part is not None
        whole[start : start + len(part)] = torch.from_numpy(np.array(part))
        start += len(part)
    return whole


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
