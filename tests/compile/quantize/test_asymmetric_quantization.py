"""Groups with zero points against float64 references that know nothing of the search.

Covers: uint4, groups of 16 to 128, whole or not; scales in float32, float16 and bfloat16
Reference: all 16 zero points with 90 scales each, in float64 NumPy
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_compile.errors import CheckpointError, UnsupportedError
from qwen3_compile.quantize import Quantized, quantize
from qwen3_graphs.formats import WeightFormat

DISTRIBUTIONS = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "shifted": lambda rng, shape: rng.standard_normal(shape) + rng.standard_normal((shape[0], 1)),
    "heavy": lambda rng, shape: rng.standard_t(4, shape),
    "one-sided": lambda rng, shape: -rng.exponential(size=shape),
}


def sample(kind: str, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return (DISTRIBUTIONS[kind](np.random.default_rng(seed), (rows, columns)) * 0.02).astype(np.float32)


def ranges(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value of every group [G, size], zero between them, float64 [G, 1]."""
    exact = groups.astype(np.float64)
    return np.minimum(exact.min(1, keepdims=True), 0), np.maximum(exact.max(1, keepdims=True), 0)


def plain_error(groups: np.ndarray) -> np.ndarray:
    """Squared error of every group with codes spread from its lowest to its highest value."""
    low, high = ranges(groups)
    scale = np.where(high > low, high - low, 1) / 15
    zero = np.clip(np.rint(-low / scale), 0, 15)
    codes = np.clip(np.rint(groups / scale) + zero, 0, 15)
    return (((codes - zero) * scale - groups) ** 2).sum(axis=1)


def best_error(groups: np.ndarray) -> np.ndarray:
    """Least squared error of every group over all zero points and a dense grid of spreads, each with its best fit."""
    low, high = ranges(groups)
    exact, best = groups.astype(np.float64), np.full(len(groups), np.inf)
    for zero in range(16):
        for spread in np.arange(0.4, 1.3, 0.01):
            steps = np.clip(np.rint(exact * 15 / (spread * (high - low))), -zero, 15 - zero)
            scale = (steps * exact).sum(1, keepdims=True) / np.maximum((steps**2).sum(1, keepdims=True), 1)
            best = np.minimum(best, ((steps * scale - exact) ** 2).sum(axis=1))
    return best


def dequantized(stored: Quantized) -> np.ndarray:
    """What codes stand for, by the definition of the format in float64: [N, K_padded]."""
    size = stored.group_size
    assert stored.zero_points is not None
    zero, scale = (np.repeat(array.astype(np.float64), size, axis=1) for array in (stored.zero_points, stored.scales))
    return (stored.codes.astype(np.float64) - zero) * scale


def padded(weight: np.ndarray, size: int) -> np.ndarray:
    """The groups of a matrix, [G, size], the last of each row filled up with zeros."""
    rows, columns = weight.shape
    return np.pad(weight, ((0, 0), (0, -columns % size))).reshape(rows * -(-columns // size), size)


@settings(deadline=None, max_examples=100)
@given(
    kind=st.sampled_from(sorted(DISTRIBUTIONS)),
    rows=st.integers(1, 9),
    columns=st.integers(1, 300),
    size=st.sampled_from([16, 32, 64, 128]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_group_is_at_least_as_good_as_the_plain_choice(
    kind: str, rows: int, columns: int, size: int, seed: int
) -> None:
    weight = sample(kind, rows, columns, seed)
    stored = quantize(weight, WeightFormat("uint4", size))
    groups = padded(weight, size).astype(np.float64)
    error = ((dequantized(stored).reshape(groups.shape) - groups) ** 2).sum(axis=1)
    noise = size * (1e-6 * np.abs(groups).max()) ** 2  # of float32
    assert (error <= plain_error(groups) * (1 + 1e-4) + noise).all()
    # and the format is what it says
    assert stored.codes.dtype == stored.zero_points.dtype == np.uint8
    assert stored.codes.max() <= 15
    assert stored.zero_points.max() <= 15
    assert (stored.scales > 0).all()
    np.testing.assert_allclose(stored.dequantize(), dequantized(stored), rtol=1e-6)


@pytest.mark.parametrize("kind", sorted(DISTRIBUTIONS))
@pytest.mark.parametrize(("size", "excess"), [(32, 1.03), (128, 1.012)])
def test_the_search_comes_close_to_the_best_zero_point_and_scale(kind: str, size: int, excess: float) -> None:
    groups = sample(kind, 400, size)
    stored = quantize(groups, WeightFormat("uint4", size))
    error = ((dequantized(stored) - groups) ** 2).sum()
    assert error < excess * best_error(groups).sum()
    assert error < 0.95 * plain_error(groups).sum()


@pytest.mark.parametrize("size", [32, 128])
def test_groups_that_lean_to_one_side_gain_most_over_symmetric_codes(size: int) -> None:
    groups = sample("one-sided", 200, size)
    with_zero = quantize(groups, WeightFormat("uint4", size)).dequantize()
    without = quantize(groups, WeightFormat("int4", size)).dequantize()
    assert 2 * ((with_zero - groups) ** 2).sum() < ((without - groups) ** 2).sum()


def test_zero_is_exact_and_padding_is_zero() -> None:
    weight = sample("shifted", 5, 70)
    weight[:, 3] = 0
    stored = quantize(weight, WeightFormat("uint4", 32))
    values = stored.dequantize()
    assert (values[:, 3] == 0).all()
    assert (values[:, 70:] == 0).all()
    assert values.shape == (5, 96)


@pytest.mark.parametrize("value", [0.0, 1e-38, -1e-38])
def test_a_group_of_zeros_has_the_scale_one(value: float) -> None:
    stored = quantize(np.full((2, 32), value, np.float32), WeightFormat("uint4", 32))
    assert (stored.dequantize() == 0).all()
    assert (stored.scales == 1).all()


@pytest.mark.parametrize("value", [3.0, -2.5e-30, 3e38, -3e38])
def test_equal_values_are_kept(value: float) -> None:
    stored = quantize(np.full((1, 32), value, np.float32), WeightFormat("uint4", 32))
    np.testing.assert_allclose(stored.dequantize(), value, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(exponent=st.integers(-90, 90), seed=st.integers(0, 2**32 - 1))
def test_a_power_of_two_changes_scales_alone(exponent: int, seed: int) -> None:
    weight, factor = sample("shifted", 3, 64, seed), np.float32(2.0**exponent)
    plain, scaled = (quantize(array, WeightFormat("uint4", 32)) for array in (weight, weight * factor))
    np.testing.assert_array_equal(plain.codes, scaled.codes)
    np.testing.assert_array_equal(plain.zero_points, scaled.zero_points)
    np.testing.assert_array_equal(plain.scales * factor, scaled.scales)


def test_rows_do_not_depend_on_their_neighbors() -> None:
    weight = sample("heavy", 300, 96)
    whole = quantize(weight, WeightFormat("uint4", 32))
    one = quantize(weight[123:124], WeightFormat("uint4", 32))
    for part, row in ((whole.codes, one.codes), (whole.scales, one.scales), (whole.zero_points, one.zero_points)):
        np.testing.assert_array_equal(part[123:124], row)


@pytest.mark.parametrize(("scale_type", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_codes_are_chosen_for_scales_as_their_type_stores_them(scale_type: str, dtype: type) -> None:
    weight = sample("shifted", 40, 128)
    stored = quantize(weight, WeightFormat("uint4", 32), scale_type=scale_type)
    np.testing.assert_array_equal(stored.scales, stored.scales.astype(dtype).astype(np.float32))
    groups = weight.reshape(-1, 32).astype(np.float64)
    zero, scale = stored.zero_points.reshape(-1, 1).astype(np.float64), stored.scales.reshape(-1, 1).astype(np.float64)
    nearest = np.clip(groups / scale + zero, 0, 15)
    assert (np.abs(nearest - stored.codes.reshape(groups.shape)) <= 0.5001).all()


def test_a_matrix_with_the_same_groups_is_taken_over_and_others_are_quantized_again() -> None:
    weight = sample("shifted", 8, 64)
    stored = quantize(weight, WeightFormat("uint4", 32))
    again = quantize(stored, WeightFormat("uint4", 32))
    np.testing.assert_array_equal(stored.codes, again.codes)
    np.testing.assert_array_equal(stored.zero_points, again.zero_points)
    symmetric = quantize(weight, WeightFormat("int4", 32))
    assert quantize(symmetric, WeightFormat("uint4", 32)).zero_points is not None
    assert quantize(stored, WeightFormat("int4", 32)).zero_points is None


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(damage: float) -> None:
    weight = sample("gaussian", 4, 64)
    weight[2, 33] = damage
    with pytest.raises(CheckpointError, match="not finite"):
        quantize(weight, WeightFormat("uint4", 32))


def test_one_zero_point_a_row_is_refused() -> None:
    with pytest.raises(
        UnsupportedError, match=r"cannot quantize to uint4 per-channel: expected one of .*uint4 per-group"
    ):
        quantize(sample("gaussian", 4, 64), WeightFormat("uint4"))


def test_scales_beyond_their_type_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="too large for uint4 with scales in fp16"):
        quantize(np.full((1, 32), 3e6, np.float32), WeightFormat("uint4", 32), scale_type="fp16")
