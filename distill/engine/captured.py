"""A gradient recorded once as a CUDA graph and replayed at every step.

A small student's step is a few hundred short kernels, and to launch them one by one takes a CPU longer than a
GPU needs to run them. A graph launches them all at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.engine.engine import Engine
from distill.errors import UserError
from distill.losses.sobolev import Losses, Objective, Weights
from distill.losses.targets import Targets

OWN_TERMS = "--train.cuda_graph=true records no objective.terms; leave one of the two out"


@dataclass
class Recording:
    """One graph with the memory it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    weight: Tensor
    losses: Losses
    gradients: list[Tensor | None]


class CapturedStep:
    """``Engine.step`` with the same arguments and results; it sets ``.grad`` rather than adding to it.

    What it returns is overwritten by the next call. A change of shapes or of the objective records anew.

    Args:
        engine: on a CUDA device.
        parameters: what it writes gradients of.

    Raises:
        UserError: the parameters are not on a CUDA device.
    """

    def __init__(self, engine: Engine, parameters: Iterable[nn.Parameter]) -> None:
        self._step, self._parameters = engine.step, list(parameters)
        self._recordings: dict[object, Recording] = {}
        device = self._parameters[0].device
        if device.type != "cuda":
            raise UserError(f"--train.cuda_graph=true needs a CUDA device, not {device}")

    def __call__(
        self, obs: Tensor, logits: Tensor, targets: Targets | None, weight: Weights, objective: Objective
    ) -> Losses:
        """See ``Engine.step``.

        Raises:
            UserError: the objective has terms of one's own, of which nobody knows whether a graph can record them.
        """
        if objective.terms:
            raise UserError(OWN_TERMS)
        inputs = _tensors(obs, logits, targets)
        key = (objective, targets is None, *((tuple(part.shape), part.dtype) for part in inputs))
        recording = self._recordings.get(key)
        if recording is None:
            recording = self._recordings[key] = self._record(obs, logits, targets, objective)
        recording.weight.fill_(objective.lambda_of(weight, targets))
        for kept, new in zip(recording.inputs, inputs, strict=True):
            kept.copy_(new)
        recording.graph.replay()
        for parameter, gradient in zip(self._parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return recording.losses

    def _record(self, obs: Tensor, logits: Tensor, targets: Targets | None, objective: Objective) -> Recording:
        obs, logits = obs.clone(), logits.clone()
        if targets is not None:
            scale = None if targets.scale is None else targets.scale.clone()
            targets = Targets(targets.v.clone(), targets.vjp.clone(), scale)
        weight = torch.ones((), device=obs.device)
        # Libraries choose their algorithms and set up their workspaces at first calls, which a graph must not record.
        aside = torch.cuda.Stream(obs.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(obs.device))
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._clear()
                self._step(obs, logits, targets, weight, objective)
        torch.cuda.current_stream(obs.device).wait_stream(aside)
        self._clear()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = self._step(obs, logits, targets, weight, objective)
        gradients = [parameter.grad for parameter in self._parameters]
        return Recording(graph, _tensors(obs, logits, targets), weight, losses, gradients)

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def _tensors(obs: Tensor, logits: Tensor, targets: Targets | None) -> list[Tensor]:
    parts = [] if targets is None else [targets.v, targets.vjp, targets.scale]
    return [obs, logits, *(part for part in parts if part is not None)]
