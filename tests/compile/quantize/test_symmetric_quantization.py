"""Quantized groups against float64 references that know nothing of the search.

Covers: int8 and int4, groups of 32, 64 and 128 and whole rows; scales of either sign and above zero, in float32,
    float16 and bfloat16
Reference: float64 brute force; plain rounding
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_compile.errors import CheckpointError, UnsupportedError
from qwen3_compile.quantize import quantize
from qwen3_graphs.formats import WeightFormat

KINDS = ["int4", "int8"]


def normal(rows, columns, seed=0, spread=0.02):
    return (np.random.default_rng(seed).standard_normal((rows, columns)) * spread).astype(np.float32)


def absmax_error(groups, kind):
    """Squared error of every group [G, size] under round-to-nearest with scale absmax / highest code."""
    highest = WeightFormat(kind).code_range[1]
    exact = groups.astype(np.float64)
    scale = np.abs(exact).max(axis=1, keepdims=True) / highest
    scale[scale == 0] = 1.0
    return ((np.clip(np.rint(exact / scale), -highest, highest) * scale - exact) ** 2).sum(axis=1)


def quantized_error(groups, quantized):
    codes = quantized.codes.astype(np.float64).reshape(groups.shape)
    return ((codes * quantized.scales.astype(np.float64).reshape(-1, 1) - groups) ** 2).sum(axis=1)


def best_error(groups, kind, signs=(-1, 1)):
    """Least squared error of every group over a dense grid of scales of the given signs, each with its own best fit."""
    low, high = WeightFormat(kind).code_range
    exact = groups.astype(np.float64)
    peak = np.abs(exact).max(axis=1, keepdims=True)
    best = np.full(len(exact), np.inf)
    for target in high * np.concatenate([sign * np.arange(0.8, 2.0, 0.005) for sign in signs]):
        codes = np.clip(np.rint(exact * target / peak), low, high)
        scale = (codes * exact).sum(axis=1, keepdims=True) / np.maximum((codes**2).sum(axis=1, keepdims=True), 1.0)
        best = np.minimum(best, ((codes * scale - exact) ** 2).sum(axis=1))
    return best


@settings(deadline=None, max_examples=200)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 300),
    fmt=st.sampled_from(
        [WeightFormat(kind, size) for kind in KINDS for size in (32, 64, 128)] + [WeightFormat("int8")]
    ),
    heavy=st.booleans(),
    positive=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_group_is_at_least_as_good_as_plain_absmax(rows, columns, fmt, heavy, positive, seed):
    kind, size = fmt.kind, fmt.group_size or columns
    rng = np.random.default_rng(seed)
    draw = rng.standard_t(3, (rows, columns)) if heavy else rng.standard_normal((rows, columns))
    weight = draw.astype(np.float32)
    quantized = quantize(weight, fmt, positive=positive)
    assert not positive or (quantized.scales > 0).all()
    groups = -(-columns // size)
    assert quantized.codes.shape == (rows, groups * size)
    assert quantized.scales.shape == (rows, groups)
    padded = np.zeros((rows, groups * size), np.float32)
    padded[:, :columns] = weight
    padded = padded.reshape(-1, size)
    plain = absmax_error(padded, kind)
    assert (quantized_error(padded, quantized) <= plain * (1 + 1e-5) + 1e-13 * (padded**2).sum(axis=1)).all()
    assert not quantized.codes[:, columns:].any()
    low, high = WeightFormat(kind).code_range
    assert quantized.codes.min() >= low
    assert quantized.codes.max() <= high


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_the_nearest_ones_and_errors_stay_within_half_a_step(kind):
    weight = normal(40, 256)
    quantized = quantize(weight, WeightFormat(kind, 32))
    steps = np.repeat(quantized.scales.astype(np.float64), 32, axis=1)
    exact = np.clip(np.rint(weight / steps), *WeightFormat(kind).code_range)
    assert (np.abs(exact - quantized.codes) <= 0).mean() > 0.9999
    inside = (quantized.codes > WeightFormat(kind).code_range[0]) & (quantized.codes < WeightFormat(kind).code_range[1])
    error = np.abs(quantized.dequantize() - weight)
    assert (error[inside] <= np.abs(steps[inside]) * 0.5001).all()


@pytest.mark.parametrize(("kind", "slack"), [("int4", 1.03), ("int8", 1.35)])
@pytest.mark.parametrize("size", [32, 128])
def test_search_comes_close_to_a_dense_grid_in_float64(kind, size, slack):
    groups = normal(200, size, seed=3)
    quantized = quantize(groups, WeightFormat(kind, size))
    assert quantized_error(groups, quantized).sum() <= best_error(groups, kind).sum() * slack


@pytest.mark.parametrize(("kind", "slack"), [("int4", 1.03), ("int8", 1.35)])
@pytest.mark.parametrize("size", [32, 128])
def test_search_above_zero_comes_close_to_a_dense_grid_in_float64(kind, size, slack):
    groups = normal(200, size, seed=3)
    quantized = quantize(groups, WeightFormat(kind, size), positive=True)
    assert quantized_error(groups, quantized).sum() <= best_error(groups, kind, signs=(1,)).sum() * slack


@pytest.mark.parametrize("size", [32, 128])
def test_scales_above_zero_cost_at_most_a_seventh_more_at_four_bits(size):
    groups = normal(2000, size, seed=1)
    either, above = (quantize(groups, WeightFormat("int4", size), positive=positive) for positive in (False, True))
    assert quantized_error(groups, above).sum() < 1.15 * quantized_error(groups, either).sum()


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    scale_type=st.sampled_from(["fp16", "bf16"]),
    positive=st.booleans(),
    exponent=st.integers(-30, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_scales_are_values_of_their_type_and_codes_are_chosen_for_them(kind, scale_type, positive, exponent, seed):
    weight = np.ldexp(normal(6, 96, seed, spread=1), exponent)
    exact = quantize(weight, WeightFormat(kind, 32), positive=positive)
    found = quantize(weight, WeightFormat(kind, 32), positive=positive, scale_type=scale_type)
    stored = found.scales.astype({"fp16": np.float16, "bf16": ml_dtypes.bfloat16}[scale_type]).astype(np.float64)
    np.testing.assert_array_equal(found.scales, stored)
    assert (np.sign(found.scales) == np.sign(exact.scales)).all()
    # At most one step of a subnormal number, or a rounding, larger than the exact scale; never much smaller.
    step = 2.0**-24 if scale_type == "fp16" else 0
    larger = np.abs(stored) - np.abs(exact.scales)
    assert (larger <= np.abs(exact.scales) * 2.0**-8 + step).all()
    assert (larger >= -np.abs(exact.scales) * 2.0**-8).all()
    steps = np.repeat(stored, 32, axis=1)
    wanted = weight.astype(np.float64) / steps
    assert (np.abs(np.clip(wanted, *WeightFormat(kind).code_range) - found.codes) <= 0.5001).all()


@pytest.mark.parametrize(("scale_type", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_scales_are_rounded_to_the_nearest_where_their_type_is_fine(scale_type, dtype):
    weight = normal(64, 96, 3, spread=1)
    exact = quantize(weight, WeightFormat("int4", 32)).scales
    found = quantize(weight, WeightFormat("int4", 32), scale_type=scale_type).scales
    np.testing.assert_array_equal(found, exact.astype(dtype).astype(np.float32))


def test_a_scale_beyond_its_type_is_refused():
    with pytest.raises(UnsupportedError, match="too large for int4 with scales in fp16: use bf16"):
        quantize(normal(4, 32, spread=1e6), WeightFormat("int4", 32), scale_type="fp16")


def test_four_bits_beat_absmax_by_a_fifth_on_gaussian_weights():
    groups = normal(2000, 32, seed=1)
    quantized = quantize(groups, WeightFormat("int4", 32))
    assert quantized_error(groups, quantized).sum() < 0.8 * absmax_error(groups, "int4").sum()


@settings(deadline=None, max_examples=40)
@given(kind=st.sampled_from(KINDS), exponent=st.integers(-60, 40), seed=st.integers(0, 2**32 - 1), flip=st.booleans())
def test_weights_that_are_already_codes_times_a_scale_come_back_exactly(kind, exponent, seed, flip):
    low, high = WeightFormat(kind).code_range
    rng = np.random.default_rng(seed)
    codes = rng.integers(low, high, size=(6, 64), endpoint=True)
    codes[:, ::32] = high if flip else low  # a group that does not reach its range may find a finer lattice
    weight = np.ldexp(codes.astype(np.float32), exponent)
    assert np.array_equal(quantize(weight, WeightFormat(kind, 32)).dequantize(), weight)


def test_groups_of_zeros_have_zero_codes_and_a_usable_scale():
    weight = normal(4, 96)
    weight[1] = 0.0
    weight[2, 32:64] = 1e-40  # subnormal: no kernel could represent its scale
    for scale_type in ("fp32", "fp16", "bf16"):
        quantized = quantize(weight, WeightFormat("int4", 32), positive=True, scale_type=scale_type)
        assert not quantized.codes[1].any()
        assert not quantized.codes[2, 32:64].any()
        assert np.isfinite(quantized.scales).all()
        assert (quantized.scales > 0).all()


@pytest.mark.parametrize("magnitude", [1e-34, 1e-20, 1e20, 3e38])
def test_extreme_magnitudes_keep_their_relative_error(magnitude):
    weight = (np.random.default_rng(0).uniform(-1, 1, (8, 128)) * magnitude).astype(np.float32)
    quantized = quantize(weight, WeightFormat("int8", 32))
    assert (np.abs(quantized.dequantize().astype(np.float64) - weight) <= magnitude / 127).all()


def test_a_matrix_quantizes_as_its_rows_do():
    weight = normal(2500, 64)
    whole = quantize(weight, WeightFormat("int4", 32))
    some = quantize(weight[1234:1300], WeightFormat("int4", 32))
    assert np.array_equal(whole.codes[1234:1300], some.codes)
    assert np.array_equal(whole.scales[1234:1300], some.scales)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_other_floating_types_quantize_as_their_float32_values(dtype):
    weight = normal(8, 100).astype(dtype)
    given_type = quantize(weight, WeightFormat("int4", 32))
    as_float32 = quantize(weight.astype(np.float32), WeightFormat("int4", 32))
    assert np.array_equal(given_type.codes, as_float32.codes)
    assert np.array_equal(given_type.scales, as_float32.scales)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    weight = normal(70, 64)
    weight[69, 63] = bad
    with pytest.raises(CheckpointError, match="not finite"):
        quantize(weight, WeightFormat("int4", 32))


@pytest.mark.parametrize("fmt", [WeightFormat("fp32"), WeightFormat("int4", 0)])
def test_formats_without_codes_are_refused(fmt):
    with pytest.raises(UnsupportedError, match=r"expected one of int8 per-channel or per-group, .*int4 per-group"):
        quantize(normal(4, 32), fmt)
