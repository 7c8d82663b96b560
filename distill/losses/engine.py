"""The Sobolev step from first-order passes only: no double backward, the same gradient.

For R = sum ||G_0 - t||^2 with G_0 = J^T v, the gradient with respect to a layer's weights is the
correlation of two things that ordinary passes give: the cotangent G_l of that layer's output (one
backward pass seeded by v) and the tangent of that layer's input (one forward pass of the residual
e = dR/dG_0 through the linearised network):

    dL/dW_l = corr(h_{l-1}, D_l) + corr(e_{l-1}, G_l)

D is the usual backward pass of the divergence. For a smooth activation phi, D also collects
phi''(a) * a_dot * g on its way down; for piecewise-linear ones that is zero. docs/concepts.md
derives it; tests hold it against autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.divergence import get_divergence
from distill.losses.folding import fold_pixels, foldable
from distill.losses.layers import SMOOTH, known
from distill.losses.matching import blur_matrix, match
from distill.losses.projection import cotangent, cotangent_slope
from distill.losses.sobolev import Losses, Objective, Targets

aten = torch.ops.aten


@dataclass
class Stage:
    """One affine layer and the activation behind it."""

    layer: nn.Conv2d | nn.Linear
    activation: nn.Module | None
    flatten: bool
    """The input is flattened first."""
    fold: int
    """First convolution only: kernel and input are folded by this factor (space to depth), which
    turns an 8x8 stride-4 convolution into a 2x2 stride-1 one, several times faster on a CPU."""


@dataclass
class Tape:
    """What one forward pass leaves for the passes that follow."""

    inputs: list[Tensor]
    """Input of each stage's affine layer."""
    saved: list[Tensor]
    """What each activation's derivative needs: its output for ReLU, its input otherwise."""
    weights: list[Tensor]
    """Weight of each layer, folded where the stage folds."""
    logits: Tensor


class Engine:
    """Gradients of the whole objective for a sequential network, written into ``.grad``.

    Args:
        path: affine layers, activations and one flatten, pixels to logits, sharing the parameters
            of the module that is trained.
        dtype: dtype of the passes (bfloat16 on CUDA halves their cost). Losses, logits and gradients
            are float32, or float64 for float64 passes.
    """

    def __init__(self, path: nn.Sequential, dtype: torch.dtype = torch.float32) -> None:
        if not known(path):
            raise ValueError("the engine knows only sequences of Conv2d, Linear and known activations")
        self.dtype, self.full = dtype, torch.promote_types(dtype, torch.float32)
        self.stages: list[Stage] = []
        flatten = False
        for module in path:
            if isinstance(module, nn.Conv2d | nn.Linear):
                self.stages.append(Stage(module, None, flatten, 1))
                flatten = False
            elif isinstance(module, nn.Flatten):
                flatten = True
            else:
                self.stages[-1].activation = module

    # -- passes ---------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tape:
        """Primal pass. ``x``: uint8 pixels or floats in [0, 1], (B, 4, 84, 84), or what the first layer takes."""
        self.stages[0].fold = foldable(self.stages[0].layer, x)
        h = self._fold(x).to(self.dtype)
        if x.dtype == torch.uint8:
            h = h.mul_(1 / 255)
        tape = Tape([], [], [], h)
        for stage in self.stages:
            if stage.flatten:
                h = h.flatten(1)
            weight = self._weight(stage)
            tape.inputs.append(h)
            tape.weights.append(weight)
            bias = stage.layer.bias
            a = self._affine(stage, h, weight, None if bias is None else bias.to(self.dtype))
            if isinstance(stage.activation, nn.ReLU):
                a = a.relu_()
                tape.saved.append(a)
                h = a
            else:
                tape.saved.append(a)
                h = a if stage.activation is None else stage.activation(a)
        tape.logits = h.to(self.full)
        return tape

    def pull(self, tape: Tape, seed: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Backward pass of ``seed`` (B, A) to the pixels.

        Returns:
            (J^T seed folded like the input, cotangent of every pre-activation,
            cotangent of every activation's output).
        """
        g = seed.to(self.dtype)
        before: list[Tensor] = [g] * len(self.stages)
        after: list[Tensor] = [g] * len(self.stages)
        for index in reversed(range(len(self.stages))):
            after[index] = g
            before[index] = self._slope(index, tape, g)
            g = self._transpose(index, tape, before[index])
        return g, before, after

    def push(self, tape: Tape, e: Tensor, after: Sequence[Tensor]) -> tuple[list[Tensor], Tensor, list[Tensor | None]]:
        """Forward pass of the tangent ``e`` (folded pixels) through the linearised network.

        Returns:
            (tangent of every affine layer's input, tangent of the logits,
            phi''(a) * a_dot * g of every smooth activation, else None).
        """
        tangents: list[Tensor] = []
        curvature: list[Tensor | None] = []
        for index, stage in enumerate(self.stages):
            if stage.flatten:
                e = e.flatten(1)
            tangents.append(e)
            e = self._affine(stage, e, tape.weights[index], None)
            smooth = SMOOTH.get(type(stage.activation)) if stage.activation is not None else None
            curvature.append(None if smooth is None else smooth.second(tape.saved[index]) * e * after[index])
            e = self._slope(index, tape, e)
        return tangents, e.to(self.full), curvature

    # -- the step -------------------------------------------------------------------------------

    def step(
        self, x: Tensor, teacher_logits: Tensor, targets: Targets | None, weight: float, objective: Objective
    ) -> Losses:
        """Value of the objective; adds its gradient to every parameter's ``.grad``.

        Same arguments and result as ``sobolev_loss(...)`` followed by ``.total.backward()``.
        """
        with torch.no_grad():
            tape = self.forward(x)
        loss, seed = self._divergence(tape.logits, teacher_logits, objective)
        jacobian = torch.zeros((), device=x.device, dtype=self.full)
        curvature: list[Tensor | None] = [None] * len(self.stages)
        gradients: list[Tensor | None] = [None] * len(self.stages)
        with torch.no_grad():
            if targets is not None and weight != 0:
                count = targets.v.shape[1]
                blur = blur_matrix(objective.blur, x.shape[-1]).to(jacobian) if objective.blur else None
                for k in range(count):
                    jacobian += self._sobolev(
                        tape, targets, k, weight / count, objective, blur, seed, gradients, curvature
                    )
                jacobian = jacobian / (count * objective.normaliser())
            self._backward(tape, seed, gradients, curvature)
        return Losses(loss + weight * jacobian, loss, jacobian, tape.logits)

    def vjp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, A) and J^T v for K vectors a state: v (B, K, A) to (B, K, *x.shape[1:])."""
        with torch.no_grad():
            tape = self.forward(x)
            rows = [self.pixels(self.pull(tape, v[:, k])[0]) for k in range(v.shape[1])]
        return tape.logits, torch.stack(rows, 1)

    def pixels(self, folded: Tensor) -> Tensor:
        """A folded derivative from ``pull`` as float (B, 4, 84, 84)."""
        return self._unfold(folded).to(self.full)

    def _divergence(self, logits: Tensor, teacher_logits: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        leaf = logits.detach().requires_grad_()
        loss = get_divergence(objective.divergence)(leaf, teacher_logits / objective.temperature).mean()
        (seed,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), seed

    def _sobolev(
        self,
        tape: Tape,
        targets: Targets,
        k: int,
        weight: float,
        objective: Objective,
        blur: Tensor | None,
        seed: Tensor,
        gradients: list[Tensor | None],
        curvature: list[Tensor | None],
    ) -> Tensor:
        """Add projection k to weight gradients, curvature terms and the divergence's seed (in place)."""
        v = targets.v[:, k]
        g, before, after = self.pull(tape, cotangent(objective.space, tape.logits, v))
        if blur is None:
            teacher = self._target(targets, k, objective.temperature)
            losses, e = match(objective.match, g.to(self.full), teacher.to(self.full))
        else:
            teacher = (targets.row(k) / objective.temperature).to(self.full)
            losses, e = match(objective.match, self.pixels(g), teacher, blur)
            e = self._fold(e)
        e = e.mul_(weight / (len(v) * objective.normaliser())).to(self.dtype)
        tangents, logits_dot, bend = self.push(tape, e, after)
        for index, tangent in enumerate(tangents):
            part = self._weight_gradient(index, tangent, before[index], tape.weights[index])
            have = gradients[index]
            gradients[index] = part if have is None else have.add_(part)
            extra, old = bend[index], curvature[index]
            if extra is not None:
                curvature[index] = extra if old is None else old + extra
        seed += cotangent_slope(objective.space, tape.logits, v, logits_dot)
        return losses.mean()

    def _backward(
        self, tape: Tape, seed: Tensor, gradients: list[Tensor | None], curvature: list[Tensor | None]
    ) -> None:
        d = seed.to(self.dtype)
        for index in reversed(range(len(self.stages))):
            d = self._slope(index, tape, d)
            bend = curvature[index]
            if bend is not None:
                d = d + bend
            gradient = self._weight_gradient(index, tape.inputs[index], d, tape.weights[index])
            tangent_part = gradients[index]
            if tangent_part is not None:
                gradient = gradient + tangent_part
            layer = self.stages[index].layer
            _accumulate(layer.weight, self._unfold_weight(self.stages[index], gradient))
            if layer.bias is not None:
                _accumulate(layer.bias, d.sum(dim=(0, 2, 3) if d.dim() == 4 else 0, dtype=self.full))
            if index:
                d = self._transpose(index, tape, d)

    # -- pieces ---------------------------------------------------------------------------------

    def _affine(self, stage: Stage, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(stage.layer, nn.Linear):
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, stride=stage.layer.stride[0] // stage.fold)

    def _slope(self, index: int, tape: Tape, g: Tensor) -> Tensor:
        """phi'(a) * g: the activation's linear part, the same for tangents and cotangents."""
        activation, saved = self.stages[index].activation, tape.saved[index]
        if activation is None:
            return g
        if isinstance(activation, nn.ReLU):
            return aten.threshold_backward(g, saved, 0)  # type: ignore[no-any-return]
        return SMOOTH[type(activation)].first(saved) * g

    def _transpose(self, index: int, tape: Tape, g: Tensor) -> Tensor:
        """W^T g: cotangent of the affine layer's input, in the shape of the output below."""
        stage, weight, x = self.stages[index], tape.weights[index], tape.inputs[index]
        if isinstance(stage.layer, nn.Linear):
            down = g @ weight
        else:
            down = _conv_backward(g, x, weight, stage, (True, False))[0]
        return down.view_as(tape.saved[index - 1]) if stage.flatten and index else down

    def _weight_gradient(self, index: int, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        stage = self.stages[index]
        if isinstance(stage.layer, nn.Linear):
            return (g.T @ x).to(self.full)
        return _conv_backward(g, x, weight, stage, (False, True))[1].to(self.full)

    def _weight(self, stage: Stage) -> Tensor:
        weight = stage.layer.weight.detach().to(self.dtype)
        if stage.fold > 1:
            weight = F.pixel_unshuffle(weight, stage.fold)
        return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight

    def _unfold_weight(self, stage: Stage, gradient: Tensor) -> Tensor:
        return F.pixel_shuffle(gradient, stage.fold) if stage.fold > 1 else gradient

    def _fold(self, x: Tensor) -> Tensor:
        fold = self.stages[0].fold
        if x.dim() != 4:
            return x
        return fold_pixels(x, fold) if fold > 1 else x.contiguous(memory_format=torch.channels_last)

    def _target(self, targets: Targets, k: int, temperature: float) -> Tensor:
        """The teacher's derivative, folded; stored codes before they become floats, a quarter of the bytes."""
        fold = self.stages[0].fold
        if targets.scale is None or fold == 1:
            return self._fold(targets.row(k) / temperature if temperature != 1 else targets.row(k))
        batch, stack, height = targets.scale[:, k].shape
        rows = targets.scale[:, k].view(batch, stack, height // fold, fold).transpose(1, 2) / temperature
        scale = rows.reshape(batch, height // fold, 1, stack * fold).repeat_interleave(fold, -1)
        return self._fold(targets.vjp[:, k]) * scale.permute(0, 3, 1, 2)

    def _unfold(self, x: Tensor) -> Tensor:
        fold = self.stages[0].fold
        return F.pixel_shuffle(x, fold) if fold > 1 else x


def _conv_backward(
    g: Tensor, x: Tensor, weight: Tensor, stage: Stage, mask: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    layer = stage.layer
    assert isinstance(layer, nn.Conv2d)
    stride = layer.stride[0] // stage.fold
    data, kernel, _ = aten.convolution_backward(
        g, x, weight, None, [stride, stride], [0, 0], [1, 1], False, [0, 0], 1, [*mask, False]
    )
    return data, kernel


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    if not parameter.requires_grad:
        return
    gradient = gradient.to(parameter.dtype)
    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
