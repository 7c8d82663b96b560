"""The influence measure: how much some pixels can move the agent's decision (Shu & Zhu, AAAI 2019).

A perturbation of n pixels moves the policy p on the statistical manifold. Its Fisher metric is G = L L^T with
L = dp/domega diag(p^-1/2), (n, A), and with f = log p_c of the chosen action the measure is

    FI = grad f G^+ grad f^T .

Since grad f = L e_c / sqrt(p_c), this is (L^+ L)_cc / p_c: the projection onto the row space of L, an A x A matrix
that the n pixels enter by L^T L alone, which is a sum over pixels. So the maps of all patches of a width are one box
filter and one eigendecomposition a pixel. The measure does not change when pixels are rescaled, and of a whole image
whose Jacobian has rank A - 1 it is 1/p_c - 1, whatever the derivatives are: it says something of parts only.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.engine.step import make_passes
from distill.figures.figure import Figure, Outputs

RANK = 1e-3
"""Singular values of L below this share of its largest count as 0."""
WIDTHS = (1, 3, 5, 7)
"""Of the patches that figures and attacks know."""
STATES = 8
"""Whose Jacobians are held at a time."""
MATRICES = 4096
"""Decomposed at a time: CUDA's solver asks for 280 KB of work space a matrix, however small."""


def patch_influence(jacobian: Tensor, logits: Tensor, size: int = 1, action: Tensor | None = None) -> Tensor:
    """The measure of every patch.

    Args:
        jacobian: derivatives of the logits by pixels, float (B, A, C, H, W).
        logits: float (B, A).
        size: width of a patch, odd; a patch lies in one frame, and ends at its edge.
        action: c, int64 (B,); by default the most likely one.

    Returns:
        Double (B, C, H, W), at each patch's middle.
    """
    rows = _rows(jacobian, logits)  # (B, A, C, H, W)
    action = logits.argmax(-1) if action is None else action
    if size == 1:
        return _of_pixels(rows, logits, action)
    gram = torch.einsum("bichw,bjchw->bcijhw", rows, rows)
    gram = box_sum(gram.flatten(0, 3).unsqueeze(1), size).squeeze(1).view_as(gram)
    return _of_gram(gram.movedim((2, 3), (-2, -1)), logits, action)


def box_sum(maps: Tensor, size: int) -> Tensor:
    """Sums over the patches of a width around every pixel, (B, 1, H, W); a patch ends at the edge."""
    return F.avg_pool2d(maps, size, 1, size // 2) * size**2


def influence(jacobian: Tensor, logits: Tensor, action: Tensor | None = None) -> Tensor:
    """The measure of all given pixels together.

    Args:
        jacobian: derivatives of the logits by these pixels, float (B, A, n).
        logits: float (B, A).
        action: c, int64 (B,); by default the most likely one.

    Returns:
        Double (B,).
    """
    rows = _rows(jacobian, logits)
    action = logits.argmax(-1) if action is None else action
    return _of_gram(rows @ rows.mT, logits, action)


def _rows(jacobian: Tensor, logits: Tensor) -> Tensor:
    """L^T: sqrt(p_y) times the derivative of log p_y, double, of the Jacobian's shape."""
    p = logits.double().softmax(-1).view(*logits.shape, *[1] * (jacobian.dim() - 2))
    best = logits.argmax(-1).view(-1, *[1] * (jacobian.dim() - 1)).expand(-1, 1, *jacobian.shape[2:])
    wide = jacobian.double()
    wide = wide - wide.gather(1, best)  # changes no derivative of log p, and of a sure agent's none is lost to rounding
    rows: Tensor = p.sqrt() * (wide - (p * wide).sum(1, keepdim=True))
    return rows


def _of_pixels(rows: Tensor, logits: Tensor, action: Tensor) -> Tensor:
    """The same of single pixels, where G is one number: (d log p_c)^2 / sum_y p_y (d log p_y)^2; (B, A, ...)."""
    chosen = action.view(-1, *[1] * (rows.dim() - 1)).expand(-1, 1, *rows.shape[2:])
    squares = rows.square()
    total, p = squares.sum(1), logits.double().softmax(-1).gather(1, action.unsqueeze(1))
    share = squares.gather(1, chosen).squeeze(1) / total.clamp_min(torch.finfo(total.dtype).tiny)
    return share / p.view(-1, *[1] * (share.dim() - 1))


def _of_gram(gram: Tensor, logits: Tensor, action: Tensor) -> Tensor:
    """(L^+ L)_cc / p_c of L^T L, (B, ..., A, A), as (B, ...)."""
    values, vectors = _eigh(gram)
    largest = values[..., -1:].clamp_min(0)
    kept = (values > RANK**2 * largest) & (values > 0)
    chosen = action.view(-1, *[1] * (vectors.dim() - 1)).expand(*vectors.shape[:-2], 1, vectors.shape[-1])
    part = vectors.gather(-2, chosen).squeeze(-2)  # row c
    p = logits.double().softmax(-1).gather(1, action.unsqueeze(1))
    share: Tensor = (part.square() * kept).sum(-1)
    share /= p.view(-1, *[1] * (share.dim() - 1))
    return share


def _eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of (..., A, A), some at a time."""
    parts = [torch.linalg.eigh(part) for part in torch.split(gram.flatten(0, -3), MATRICES)]
    values, vectors = (torch.cat(part) for part in zip(*parts, strict=True))
    return values.view(gram.shape[:-1]), vectors.view(gram.shape)


def patch_maps(net: nn.Module, pixels: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The measure of the patches of the newest frame, of an agent's own most likely action, from fresh passes.

    Args:
        net: the agent.
        pixels: uint8 (B, 4, 84, 84), where the agent is.
        width: of the patches.

    Returns:
        (logits (B, A), double (B, 84, 84)).
    """
    passes, logits, maps = make_passes(net), [], []
    actions = passes.forward(pixels[:1]).logits.shape[1]
    for part in torch.split(pixels, STATES):
        found, rows = passes.vjp(part, torch.eye(actions, device=part.device).expand(len(part), actions, actions))
        logits.append(found)
        maps.append(patch_influence(rows[:, :, -1:], found, width)[:, 0])
    return torch.cat(logits), torch.cat(maps)


def influence_share(net: nn.Module, pixels: Tensor, width: int = 1) -> Tensor:
    """``patch_maps`` as a share of the most that a patch can do, 1 / p_c - 1; double (B, 84, 84) in [0, 1]."""
    logits, maps = patch_maps(net, pixels, width)
    bound = 1 / logits.double().softmax(-1).amax(1) - 1
    return (maps / bound.clamp_min(1e-12)[:, None, None]).clamp(0, 1)


def newest_frame(of: Outputs, width: int) -> Tensor:
    """Mean of the student's measure over the patches of the newest frame, double (B,).

    Raises:
        ValueError: the student itself is not at hand.
    """
    name = f"influence {width}"
    if name not in of.known:
        if of.net is None:
            raise ValueError("the influence measure needs the student, not only its logits")
        of.known[name] = patch_maps(of.net, of.pixels, width)[1].flatten(1).mean(1)
    return of.known[name]


def _entry(width: int, name: str, quantile: float) -> Figure:
    return Figure(
        f"fi{width}_{name}",
        f"FI {width}x{width}, {name}",
        f"influence measure of the {width} x {width} patches of the newest frame, mean over them; {name} over states",
        functools.partial(newest_frame, width=width),
        quantile=quantile,
        in_tables=False,
    )


ENTRIES = tuple(_entry(width, name, q) for width in WIDTHS for name, q in (("median", 0.5), ("p75", 0.75)))
"""Figures to name with ``evaluate.figures``."""
