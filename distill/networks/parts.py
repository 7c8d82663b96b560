"""Layers of students that PyTorch does not have: band-limited convolutions, and noise on weights or activations.

``student.zip`` carries the text of this file where a student needs it, so it may import nothing but PyTorch, and must
run on every Python that stable-baselines3 runs on.
"""

import contextlib
import math
import threading

import torch
import torch.nn.functional as F
from torch import nn

DRAWS: "dict[int, torch.Generator | None]" = {}
"""Where noise comes from, by thread: a generator on the host; PyTorch's own where there is none. (A variable of the
context could not be pickled, which stable-baselines3 does with this text's names.)
"""
ALPHA = 0.25
"""Noise at the start, in standard deviations of what it is added to (He et al. 2019)."""
RANK, FACTOR = 5, 0.01
"""Of the low-rank part of coloured noise: its rank, and the standard deviation of its factor at the start."""
HOST = torch.device("cpu")
"""Where tables are made, also for a network whose parameters are to come from a file."""
TINY = 1e-12
"""Keeps the slope of a root finite."""


@contextlib.contextmanager
def draws_from(generator: "torch.Generator | None"):  # type: ignore[no-untyped-def]
    """All noise that this thread draws meanwhile comes from ``generator``, which is on the host."""
    thread = threading.get_ident()
    before = DRAWS.get(thread)
    DRAWS[thread] = generator
    try:
        yield
    finally:
        DRAWS[thread] = before
        if before is None:
            del DRAWS[thread]


def _normal(shape: "tuple[int, ...]", like: torch.Tensor) -> torch.Tensor:
    return torch.randn(shape, generator=DRAWS.get(threading.get_ident())).to(like)


class Noise(nn.Module):
    """Adds noise to v, as large as it learns: a layer's weight, or its output, state by state.

    White noise is v + alpha * std(v) * eta; coloured noise v + sqrt(std(v) |d|) * eta + F eta', whose covariance is a
    diagonal and a matrix of rank 5. Eta are standard normal, and std(v) counts as a constant.

    Args:
        shape: of v, without a batch.
        coloured: which of the two.
        at_play: it is there in eval mode, too.
    """

    def __init__(self, shape: "tuple[int, ...]", coloured: bool, at_play: bool) -> None:
        super().__init__()
        self.coloured, self.at_play, self.shape = coloured, at_play, tuple(shape)
        if coloured:  # at first as large as white noise on what has a standard deviation of 1
            self.diagonal = nn.Parameter(torch.full(self.shape, ALPHA**2))
            self.factor = nn.Parameter(FACTOR * torch.randn((*self.shape, RANK)))
        else:
            self.alpha = nn.Parameter(torch.full((1,), ALPHA))

    @property
    def on(self) -> bool:
        """There is noise now."""
        return self.training or self.at_play

    def begin_with(self, v: torch.Tensor) -> None:
        """Set the diagonal so that it is as large as white noise on ``v``."""
        if self.coloured and not v.is_meta:
            with torch.no_grad():
                self.diagonal.fill_(ALPHA**2 * float(v.std()))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        """``v`` with noise, where there is some now."""
        if not self.on:
            return v
        spread = v.detach().std(unbiased=False)
        if not self.coloured:
            return v + self.alpha * (spread * _normal(tuple(v.shape), v))
        batch = tuple(v.shape[: v.dim() - len(self.shape)])
        low_rank = _normal((*batch, RANK), v) @ self.factor.flatten(0, -2).T
        scale = (spread * self.diagonal.abs() + TINY).sqrt()
        return v + scale * _normal(tuple(v.shape), v) + low_rank.view(v.shape)


class _Noisy:
    """A layer with noise on its weight or on its output: what both kinds share."""

    weight: torch.Tensor
    noise: Noise
    on_weights: bool

    @property
    def changes(self) -> bool:
        """Its weight is another one in every pass."""
        return self.on_weights and self.noise.on

    def made(self) -> torch.Tensor:
        """The weight that it computes with; each call draws anew."""
        return self.noise(self.weight) if self.on_weights else self.weight

    def put(self, y: torch.Tensor) -> torch.Tensor:
        """Its output, with noise where that is what has some."""
        return y if self.on_weights else self.noise(y)


class NoisyConv2d(_Noisy, nn.Conv2d):
    """A convolution with noise; ``size``: of its output, of which noise on that has the shape."""

    def __init__(
        self, sizes: "tuple[int, int, int, int]", size: int, on_weights: bool, coloured: bool, at_play: bool
    ) -> None:
        nn.Conv2d.__init__(self, *sizes)
        self.on_weights = on_weights
        shape = tuple(self.weight.shape) if on_weights else (sizes[1], size, size)
        self.noise = Noise(shape, coloured, at_play)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As ``nn.Conv2d``."""
        return self.put(F.conv2d(x, self.made(), self.bias, self.stride))


class NoisyLinear(_Noisy, nn.Linear):
    """A dense layer with noise."""

    def __init__(self, sizes: "tuple[int, int]", on_weights: bool, coloured: bool, at_play: bool) -> None:
        nn.Linear.__init__(self, *sizes)
        self.on_weights = on_weights
        self.noise = Noise(tuple(self.weight.shape) if on_weights else (sizes[1],), coloured, at_play)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As ``nn.Linear``."""
        return self.put(F.linear(x, self.made(), self.bias))


def low_pass(size: int, cut: float) -> torch.Tensor:
    """The matrix L that keeps the lowest frequencies of a periodic signal, so that L x L does so of an image.

    Of an image's coefficients a share ``cut`` goes, as nearly as an odd number of frequencies along each axis allows.
    """
    highest = size // 2 if cut == 0 else max(0, round((math.sqrt(1 - cut) * size - 1) / 2))
    place = torch.arange(size, dtype=torch.float64, device=HOST)
    angle = 2 * math.pi / size * (place[:, None] - place)
    frequencies = torch.arange(1, highest + 1, dtype=torch.float64, device=HOST)
    waves = 2 * (angle[..., None] * frequencies).cos()
    if 2 * highest == size:
        waves[..., -1] /= 2  # the highest frequency of an even number of places is its own mirror image
    return (1 + waves.sum(-1)) / size


def cosines(size: int, kept: int) -> torch.Tensor:
    """The ``kept`` lowest cosines of the DCT-II on ``size`` places, orthonormal columns, (size, kept)."""
    place = torch.arange(size, dtype=torch.float64, device=HOST) + 0.5
    wave = torch.arange(kept, dtype=torch.float64, device=HOST)
    basis = (math.pi / size * place[:, None] * wave).cos() * math.sqrt(2 / size)
    basis[:, 0] /= math.sqrt(2)
    return basis


class BandLimited2d(nn.Module):
    """A convolution in the lowest frequencies (Dziedzic et al. 2019): F^-1[(M . F x) conj(M . F w)], with a stride.

    M keeps the frequencies of a square and is a projection, so that is the convolution of w with the low-passed image,
    L x L. A kernel is kept as its lowest coefficients, of the cosine transform of its own places: of k x k as many
    along each axis as sqrt(1 - cut) k, rounded.

    Args:
        sizes: channels in, channels out, kernel, stride.
        size: of the image, which is periodic to the transform.
        cut: share of the coefficients that goes, from 0, an ordinary convolution, to below 1.
        noise: on the coefficients of its kernels, with their shape.
    """

    basis: torch.Tensor
    lows: torch.Tensor

    def __init__(
        self,
        sizes: "tuple[int, int, int, int]",
        size: int,
        cut: float,
        noise: "tuple[bool, bool] | None" = None,
    ) -> None:
        super().__init__()
        channels, out, self.kernel, self.step = sizes
        self.cut, self.size = cut, size
        kept = max(1, round(math.sqrt(1 - cut) * self.kernel))
        self.weight = nn.Parameter(torch.empty(out, channels, kept, kept))
        self.bias = nn.Parameter(torch.zeros(out))
        nn.init.kaiming_uniform_(self.weight, math.sqrt(5))  # as nn.Conv2d
        self.register_buffer("basis", cosines(self.kernel, kept).float(), persistent=False)
        self.register_buffer("lows", low_pass(size, cut).float(), persistent=False)
        self.noise = None if noise is None else Noise(tuple(self.weight.shape), *noise)

    @property
    def changes(self) -> bool:
        """Its weight is another one in every pass."""
        return self.noise is not None and self.noise.on

    def made(self) -> torch.Tensor:
        """Its kernels, (out, in, k, k); each call draws noise anew."""
        weight = self.weight if self.noise is None else self.noise(self.weight)
        return self.basis @ weight @ self.basis.T

    def low(self, x: torch.Tensor) -> torch.Tensor:
        """L x L, of (..., size, size)."""
        if self.cut == 0:
            return x
        lows = self.lows.to(x.dtype)
        rows = x.reshape(-1, self.size) @ lows  # one product of matrices, a fifth faster than many
        return lows @ rows.view(x.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, size, size) to (B, out, size', size'), without padding."""
        return F.conv2d(self.low(x), self.made(), self.bias, self.step)


def make_convolution(spec: dict, index: int, sizes: "tuple[int, int, int, int]", size: int) -> nn.Module:  # type: ignore[type-arg]
    """Convolution ``index`` of a network.

    Args:
        spec: ``NetSpec.to_dict()``.
        index: 0, 1, ...
        sizes: channels in, channels out, kernel, stride.
        size: of the image that it sees.
    """
    cut, noise = (spec.get("band_limit") or [0.0] * (index + 1))[index], spec.get("noise")
    on_weights, at_play = spec.get("noise_on", "weights") == "weights", bool(spec.get("noise_at_play", True))
    if cut:
        return BandLimited2d(sizes, size, cut, None if noise is None else (noise == "coloured", at_play))
    if noise is None:
        return nn.Conv2d(*sizes)
    return NoisyConv2d(sizes, (size - sizes[2]) // sizes[3] + 1, on_weights, noise == "coloured", at_play)


def make_dense(spec: dict, sizes: "tuple[int, int]") -> nn.Module:  # type: ignore[type-arg]
    """A dense layer of a network, other than its last: ``NetSpec.to_dict()``, and numbers in and out."""
    noise = spec.get("noise")
    if noise is None:
        return nn.Linear(*sizes)
    on_weights, at_play = spec.get("noise_on", "weights") == "weights", bool(spec.get("noise_at_play", True))
    return NoisyLinear(sizes, on_weights, noise == "coloured", at_play)
