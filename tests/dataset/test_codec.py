from __future__ import annotations

import numpy as np
import pytest

from distill.dataset.codec import RELATIVE_ERROR, decode, encode

SHAPE = (5, 3, 4, 84, 84)


@pytest.fixture(scope="module")
def jacobian() -> np.ndarray:
    """Like a real one: image rows whose sizes span six orders of magnitude, many zeros, heavy tails."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(SHAPE) ** 3 * 10 ** rng.uniform(-6, 0, (*SHAPE[:-1], 1))
    values *= rng.random(SHAPE) < 0.7
    values[:, :, 0, :20] = 0
    return values.astype(np.float32)


def relative_error(values: np.ndarray, codec: str) -> np.ndarray:
    """Of each derivative, (n, R)."""
    difference = decode(encode(values, codec), codec) - values
    norm = np.linalg.norm(values.astype(np.float64).reshape(*values.shape[:2], -1), axis=-1)
    return np.linalg.norm(difference.astype(np.float64).reshape(*values.shape[:2], -1), axis=-1) / norm


@pytest.mark.parametrize(("codec", "limit"), [("int8", 0.02), ("fp16", 0.002)])
@pytest.mark.parametrize("size", [1.0, 1e-12, 1e6], ids=["usual", "tiny", "huge"])
def test_round_trip_error(jacobian: np.ndarray, codec: str, limit: float, size: float) -> None:
    assert RELATIVE_ERROR[codec] == limit
    error = relative_error(jacobian * np.float32(size), codec)
    assert np.isfinite(error).all()
    assert error.max() <= limit


@pytest.mark.parametrize("codec", ["int8", "fp16"])
def test_every_image_row_has_its_own_scale(codec: str) -> None:
    """A row a thousand times smaller than the largest is kept as well as that one."""
    values = np.random.default_rng(1).standard_normal((1, 1, 4, 84, 84)).astype(np.float32)
    values[:, :, :, ::2] *= 1e-3
    small = decode(encode(values, codec), codec)[:, :, :, ::2] - values[:, :, :, ::2]
    assert np.linalg.norm(small) <= RELATIVE_ERROR[codec] * np.linalg.norm(values[:, :, :, ::2])


@pytest.mark.parametrize("codec", ["int8", "fp16"])
def test_zeros_stay_zeros(codec: str) -> None:
    values = np.zeros((2, 2, 4, 84, 84), np.float32)
    values[1, 1, 2, 3, 4] = 7.0
    decoded = decode(encode(values, codec), codec)
    np.testing.assert_allclose(decoded, values, rtol=1e-3)
    assert (decoded[values == 0] == 0).all()


@pytest.mark.parametrize("codec", ["int8", "fp16"])
@pytest.mark.parametrize("tiny", [1e-12, 1e-38, 1e-44])
def test_values_near_zero_beside_large_ones_give_no_nan(codec: str, tiny: float) -> None:
    values = np.full((1, 2, 4, 84, 84), tiny, np.float32)
    values[0, 0, 0, 0, 0] = 1.0
    encoded = encode(values, codec)
    decoded = decode(encoded, codec)
    assert np.isfinite(decoded).all()
    assert np.isfinite(encoded.row_scale).all()
    assert decoded[0, 0, 0, 0, 0] == pytest.approx(1.0, rel=0.01)
    # Beside a value of 1 the tiny ones may vanish; alone they may not grow.
    assert np.abs(decoded[0, 1]).max() <= 1.01 * tiny


def test_sizes_on_disk() -> None:
    values = np.ones((3, 2, 4, 84, 84), np.float32)
    eight, sixteen = encode(values, "int8"), encode(values, "fp16")
    assert (eight.codes.dtype, sixteen.codes.dtype) == (np.int8, np.float16)
    assert (eight.codes.shape, eight.row_scale.shape, eight.gain.shape) == (values.shape, (3, 2, 4, 84), (3, 2))
    assert (eight.codes == 127).all()
    assert (encode(-values, "int8").codes == -127).all()
