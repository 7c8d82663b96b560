"""The Sobolev step from first-order passes only: no double backward, the same gradient.

For R = sum ||G_0 - t||^2 with G_0 = J^T v, the gradient with respect to a layer's weights is the
correlation of two things that ordinary passes give: the cotangent G_l of that layer's output (one
backward pass seeded by v) and the tangent of that layer's input (one forward pass of the residual
e = dR/dG_0 through the linearised network):

    dL/dW_l = corr(h_{l-1}, D_l) + corr(e_{l-1}, G_l)

D is the usual backward pass of the divergence. For a smooth activation phi, D also collects
phi''(a) * a_dot * g on its way down; for piecewise-linear ones that is zero. docs/concepts.md
derives it; tests hold it against autograd. The first layer's part is in ``pixels``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.engine.pixels import Pixels
from distill.engine.stage import stages
from distill.losses.matching import blur_matrix
from distill.losses.projection import cotangent, cotangent_slope
from distill.losses.sobolev import Divergence, Losses, Objective, Sobolev, Weights
from distill.losses.targets import Targets
from distill.losses.term import Seen


@dataclass
class Tape:
    """What one forward pass leaves for the passes that follow."""

    pixels: Pixels
    """The first layer with its input."""
    inputs: list[Tensor]
    """Input of each later stage's affine layer, what it sees of that."""
    outputs: list[Tensor]
    """Output of each stage's activation: all that its derivatives need."""
    weights: list[Tensor]
    """Weight of each layer, folded where the stage folds."""
    logits: Tensor

    def first(self, count: int) -> Tape:
        """The part of the first ``count`` states, sharing memory."""
        if count == len(self.logits):
            return self
        inputs, outputs = ([part[:count] for part in parts] for parts in (self.inputs, self.outputs))
        return Tape(self.pixels.first(count), inputs, outputs, self.weights, self.logits[:count])


@dataclass
class Gathered:
    """What the terms of an objective leave for its last backward pass."""

    seed: Tensor
    """Gradient by the logits, (B, A)."""
    gradients: list[Tensor | None]
    """Weight gradient of each stage, so far."""
    curvature: list[Tensor | None]
    """phi''(a) * a_dot * g of each stage."""


class Engine:
    """Gradients of the whole objective for a sequential network, written into ``.grad``.

    Args:
        path: affine layers, activations and one flatten, pixels to logits, sharing the parameters
            of the module that is trained.
        dtype: dtype of the passes (bfloat16 on CUDA halves their cost). Losses, logits and gradients
            are float32, or float64 for float64 passes.
        frozen: the weights never change and no ``step`` is taken: acting, labelling.
    """

    def __init__(self, path: nn.Sequential, dtype: torch.dtype = torch.float32, *, frozen: bool = False) -> None:
        self.stages = stages(path, frozen=frozen)
        self.dtype, self.full = dtype, torch.promote_types(dtype, torch.float32)
        self.frozen = frozen
        self._blurs: dict[tuple[float, int, torch.dtype, torch.device], Tensor] = {}

    # -- passes ---------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tape:
        """Primal pass. ``x``: uint8 pixels or floats in [0, 1], (B, 4, 84, 84), or what the first layer takes."""
        pixels = Pixels(self.stages[0], x, self.dtype, keep=not self.frozen)
        h = pixels.forward()
        tape = Tape(pixels, [], [h], [pixels.weight], h)
        for stage in self.stages[1:]:
            h = stage.layer.seen(h.flatten(1) if stage.flatten else h)
            tape.inputs.append(h)
            tape.weights.append(stage.layer.weight(self.dtype))
            h = stage.activate(stage.layer.affine(h, tape.weights[-1], stage.layer.bias(self.dtype)))
            tape.outputs.append(h)
        tape.logits = h.to(self.full)
        return tape

    def pull(self, tape: Tape, seed: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Backward pass of ``seed`` (B, A), down to the first layer's pre-activation.

        Returns:
            (cotangent of every pre-activation, cotangent of every activation's output).
        """
        g = seed.to(self.dtype, copy=True)  # not the caller's, since slopes are taken in place
        before: list[Tensor] = []
        after: list[Tensor] = []
        for index in reversed(range(len(self.stages))):
            after.append(g)
            before.append(self.stages[index].slope(tape.outputs[index], g))
            if index:
                g = self._down(index, tape, before[-1])
        return before[::-1], after[::-1]

    def push(
        self, tape: Tape, tangent: Tensor, after: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor, list[Tensor | None]]:
        """Forward pass of a tangent of the first pre-activation through the linearised network.

        Returns:
            (tangent of every later affine layer's input, tangent of the logits,
            phi''(a) * a_dot * g of every smooth activation, else None).
        """
        tangents: list[Tensor] = []
        curvature: list[Tensor | None] = []
        for index, stage in enumerate(self.stages):
            if index:
                tangents.append(stage.layer.seen(tangent.flatten(1) if stage.flatten else tangent))
                tangent = stage.layer.affine(tangents[-1], tape.weights[index])
            curvature.append(stage.curvature(tape.outputs[index], tangent, after[index]))
            tangent = stage.slope(tape.outputs[index], tangent)
        return tangents, tangent.to(self.full), curvature

    # -- the step -------------------------------------------------------------------------------

    def step(
        self, x: Tensor, teacher_logits: Tensor, targets: Targets | None, weight: Weights, objective: Objective
    ) -> Losses:
        """Value of the objective; adds its gradient to every parameter's ``.grad``.

        Same arguments and result as ``sobolev_loss(...)`` followed by ``.total.backward()``; passes of the derivatives
        are over the states that have targets, the first ones of the batch, and over no others. It compiles whole
        (``torch.compile(engine.step, fullgraph=True)``) and never waits for the device, so that a CUDA graph
        can record it; there ``weight`` is a tensor, which the graph reads anew at every replay.
        """
        with torch.no_grad():
            tape = self.forward(x)
            seen = Seen(tape.logits, teacher_logits / objective.temperature, x, targets)
            losses, slope = Divergence(objective.divergence).slope(seen)
            total = losses.mean()
            found = {Divergence.name: total}
            none: list[Tensor | None] = [None] * len(self.stages)
            gathered = Gathered(slope / len(x), none, list(none))
            jacobian = objective.lambda_of(weight, targets)
            if targets is not None and (isinstance(jacobian, Tensor) or jacobian != 0):
                states, count = targets.v.shape[:2]
                part = tape.first(states)
                parts = torch.zeros((), device=x.device, dtype=self.full)
                for k in range(count):
                    parts = parts + self._sobolev(part, targets, k, jacobian / count, objective, gathered)
                found[Sobolev.name] = parts / (count * objective.normaliser())
                total = total + jacobian * found[Sobolev.name]
            for term, factor in objective.own(weight):
                losses, slope = term.slope(seen)
                gathered.seed += factor / len(x) * slope
                found[term.name] = losses.mean()
                total = total + factor * found[term.name]
            self._backward(tape, gathered)
        return Losses(total, found, tape.logits)

    def backward(self, tape: Tape, seed: Tensor) -> None:
        """Backward pass of ``seed``, (B, A): adds the gradient of <seed, logits> to every parameter's ``.grad``."""
        with torch.no_grad():
            none: list[Tensor | None] = [None] * len(self.stages)
            self._backward(tape, Gathered(seed, none, none))

    def vjp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, A) and J^T v for K vectors a state: v (B, K, A) to (B, K, *x.shape[1:])."""
        with torch.no_grad():
            tape = self.forward(x)
            return tape.logits, self.rows(tape, v)

    def rows(self, tape: Tape, v: Tensor) -> Tensor:
        """J^T v for K vectors a state: v (B, K, A) to float (B, K, *x.shape[1:])."""
        pixels = tape.pixels
        rows = torch.empty((*v.shape[:2], *pixels.x.shape[1:]), dtype=self.full, device=v.device)
        for k in range(v.shape[1]):
            pixels.derivative(self.pull(tape, v[:, k])[0][0], out=rows[:, k])
        return rows

    def join(self, tapes: Sequence[Tape], keep: Sequence[Tensor | None]) -> Tape:
        """One tape for ``rows`` from several small ones.

        Args:
            tapes: of forward passes of this engine, frozen; where weights have noise, of one.
            keep: which states of each, int64, or None for all of them.
        """

        def joined(parts: Sequence[Tensor]) -> Tensor:
            return torch.cat([p if k is None else p[k] for p, k in zip(parts, keep, strict=True)])

        first, batch = tapes[0], sum(len(t.logits) if k is None else len(k) for t, k in zip(tapes, keep, strict=True))
        shape = torch.empty((1, *first.pixels.x.shape[1:]), dtype=first.pixels.x.dtype, device=first.logits.device)
        return Tape(
            first.pixels.of(shape.expand(batch, *shape.shape[1:])),
            [joined([tape.inputs[index] for tape in tapes]) for index in range(len(first.inputs))],
            [joined([tape.outputs[index] for tape in tapes]) for index in range(len(first.outputs))],
            first.weights,
            joined([tape.logits for tape in tapes]),
        )

    def _sobolev(
        self, tape: Tape, targets: Targets, k: int, weight: float | Tensor, objective: Objective, gathered: Gathered
    ) -> Tensor:
        """Mean loss of projection k; adds to what is gathered (in place)."""
        v = targets.v[:, k]
        gradients, curvature = gathered.gradients, gathered.curvature
        before, after = self.pull(tape, cotangent(objective.space, tape.logits, v))
        factor = weight / (len(v) * objective.normaliser())
        blur = self._low_pass(objective.blur, tape.pixels.x.shape[-1], tape.logits) if objective.blur else None
        loss, first, tangent = tape.pixels.residual(before[0], targets, k, factor, objective, blur)
        tangents, logits_dot, bend = self.push(tape, tangent, after)
        for index, stage in enumerate(self.stages):
            have, old, extra = gradients[index], curvature[index], bend[index]
            if index == 0:
                gradients[index] = first if have is None else have.add_(first)
            elif stage.layer.learns:
                gradients[index] = stage.layer.weight_gradient(
                    tangents[index - 1], before[index], tape.weights[index], have
                )
            curvature[index] = extra if old is None or extra is None else old + extra
        gathered.seed[: len(v)] += cotangent_slope(objective.space, tape.logits, v, logits_dot)
        return loss / len(v)

    def _backward(self, tape: Tape, gathered: Gathered) -> None:
        d = gathered.seed.to(self.dtype)
        learn = [index for index, stage in enumerate(self.stages) if stage.layer.learns]
        for index in reversed(range(min(learn, default=len(self.stages)), len(self.stages))):
            stage, bend, have = self.stages[index], gathered.curvature[index], gathered.gradients[index]
            d = stage.slope(tape.outputs[index], d)
            if bend is not None:
                d[: len(bend)] += bend
            if index in learn:
                if index:
                    gradient = stage.layer.weight_gradient(tape.inputs[index - 1], d, tape.weights[index], have)
                else:
                    gradient = tape.pixels.weight_gradient(d)
                    gradient = gradient if have is None else gradient.add_(have)
                stage.layer.add_gradient(gradient, d.sum(dim=(0, 2, 3) if d.dim() == 4 else 0, dtype=self.full))
            if index > learn[0]:
                d = self._down(index, tape, d)

    def _low_pass(self, sigma: float, size: int, like: Tensor) -> Tensor:
        """The blur matrix on the device, sent once."""
        key = (sigma, size, like.dtype, like.device)
        if key not in self._blurs:
            self._blurs[key] = blur_matrix(sigma, size).to(like)
        return self._blurs[key]

    def _down(self, index: int, tape: Tape, g: Tensor) -> Tensor:
        """W^T g of a later layer: cotangent of the output of the stage below."""
        below = tape.outputs[index - 1]
        down = self.stages[index].layer.transpose(g, tape.weights[index], below.shape)
        if not self.stages[index].flatten:
            return down
        # Element by element, PyTorch takes ten times as long on two layouts as on one.
        layout = torch.channels_last if below.dim() == 4 else torch.contiguous_format
        return down.view_as(below).contiguous(memory_format=layout)
