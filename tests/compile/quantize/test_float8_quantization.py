"""E4M3 codes and scales, against the list of all E4M3 values in float64 and against PyTorch's own type.

Covers: E4M3 in blocks, rows and whole matrices
Reference: the list of all values in float64; PyTorch's type
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_compile.errors import CheckpointError, UnsupportedError
from qwen3_compile.quantize import Float8, as_float8
from qwen3_graphs.formats import WeightFormat

BLOCKS, ROWS, WHOLE = WeightFormat("fp8", 128), WeightFormat("fp8"), WeightFormat("fp8", per_tensor=True)

formats = st.sampled_from([BLOCKS, ROWS, WHOLE])
shapes = st.tuples(st.integers(1, 300), st.integers(1, 300))


def all_values() -> np.ndarray:
    """Every E4M3 value from its bits: four bits of exponent, three of mantissa, NaN where all are set."""
    bits = np.array([code for code in range(256) if code & 0x7F != 0x7F])
    exponent, mantissa = bits >> 3 & 15, bits & 7
    size = np.where(exponent > 0, (1 + mantissa / 8) * 2.0 ** (exponent - 7), mantissa / 8 * 2.0**-6)
    return np.unique(np.where(bits >> 7, -size, size))


def matrix(rows: int, columns: int, seed: int) -> np.ndarray:
    """Rows of very different sizes, with outliers and zeros."""
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, (rows, columns)) * np.exp2(rng.integers(-12, 4, (rows, 1)))
    return (values * (rng.random((rows, columns)) > 0.05)).astype(np.float32)


def spread(found: Float8) -> np.ndarray:
    """The scale of each element, float64 [N, K]."""
    rows, columns = found.codes.shape
    scales = found.scales.astype(np.float64)
    if scales.ndim < 2:
        return np.broadcast_to(scales.reshape(-1, 1), found.codes.shape)
    return np.kron(scales, np.ones((128, 128)))[:rows, :columns]


@settings(max_examples=30, deadline=None)
@given(shapes, formats, st.integers(0, 2**31))
def test_a_scale_is_the_largest_magnitude_over_448(shape, fmt, seed):
    source = matrix(*shape, seed)
    found = as_float8(source, fmt)
    rows, columns = shape
    if fmt is ROWS:
        largest = np.abs(source).max(axis=1)
    elif fmt is WHOLE:
        largest = np.abs(source).max()
    else:
        padded = np.zeros((-(-rows // 128) * 128, -(-columns // 128) * 128))
        padded[:rows, :columns] = np.abs(source)
        largest = padded.reshape(len(padded) // 128, 128, -1, 128).max(axis=(1, 3))
    expected = np.where(largest > 0, largest.astype(np.float64) / 448, 1)
    assert found.scales.dtype == np.float32
    np.testing.assert_allclose(found.scales, expected, rtol=1e-7)


@settings(max_examples=30, deadline=None)
@given(shapes, formats, st.integers(0, 2**31))
def test_every_element_is_the_nearest_value(shape, fmt, seed):
    source = matrix(*shape, seed)
    found = as_float8(source, fmt)
    values, scales = all_values(), spread(found)
    assert not (found.codes & 0x7F == 0x7F).any()
    wanted = source.astype(np.float64) / scales
    place = np.clip(np.searchsorted(values, wanted), 1, len(values) - 1)
    nearest = np.minimum(np.abs(wanted - values[place - 1]), np.abs(wanted - values[place]))
    chosen = found.codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    assert (
        np.abs(wanted - chosen) <= nearest + 1e-6 * np.abs(wanted)
    ).all()  # the quotient is rounded to float32 first
    np.testing.assert_array_equal(found.dequantize(), (chosen * scales).astype(np.float32))


@pytest.mark.parametrize("stored", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_codes_are_pytorchs(stored):
    source = (matrix(256, 384, 3) / 100).astype(stored)
    wide = torch.from_numpy(source.astype(np.float32))
    blocks = wide.reshape(2, 128, 3, 128)
    scales = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scales[:, None, :, None]).clamp(-448, 448).reshape(256, 384).to(torch.float8_e4m3fn)
    found = as_float8(source, BLOCKS)
    np.testing.assert_array_equal(found.scales, scales.numpy())
    np.testing.assert_array_equal(found.codes, codes.view(torch.uint8).numpy())
    by_row = wide.abs().amax(1) / 448
    found = as_float8(source, ROWS)
    np.testing.assert_array_equal(found.scales, by_row.numpy())
    expected = (wide / by_row[:, None]).clamp(-448, 448).to(torch.float8_e4m3fn)
    np.testing.assert_array_equal(found.codes, expected.view(torch.uint8).numpy())
    whole = wide.abs().max() / 448
    found = as_float8(source, WHOLE)
    assert found.scales == whole.numpy()
    expected = (wide / whole).clamp(-448, 448).to(torch.float8_e4m3fn)
    np.testing.assert_array_equal(found.codes, expected.view(torch.uint8).numpy())


@pytest.mark.parametrize("fmt", [BLOCKS, ROWS])
def test_codes_and_scales_of_the_wanted_kind_stay_as_they_are(fmt):
    given = as_float8(matrix(130, 140, 1), fmt)
    assert as_float8(given, fmt) is given
    other = BLOCKS if fmt is ROWS else ROWS
    np.testing.assert_array_equal(as_float8(given, other).codes, as_float8(given.dequantize(), other).codes)


def test_one_scale_for_the_matrix_serves_as_that_of_each_row_and_not_the_reverse():
    whole = as_float8(matrix(130, 140, 1), WHOLE)
    assert as_float8(whole, WHOLE) is whole
    rows = as_float8(whole, ROWS)
    np.testing.assert_array_equal(rows.codes, whole.codes)
    np.testing.assert_array_equal(rows.scales, np.full(130, whole.scales))
    uneven = as_float8(matrix(130, 140, 1), ROWS)
    again = as_float8(uneven, WHOLE)
    np.testing.assert_array_equal(again.codes, as_float8(uneven.dequantize(), WHOLE).codes)
    assert again.scales.shape == ()


@pytest.mark.parametrize("fmt", [BLOCKS, ROWS, WHOLE])
def test_a_scale_of_zero_can_be_written_as_one_over_zeros(fmt):
    given = as_float8(matrix(200, 300, 2), fmt)
    scales = given.scales.copy()
    scales[(0,) * scales.ndim] = 0
    found = as_float8(Float8(given.codes, scales), fmt, positive=True)
    assert (found.scales > 0).all()
    np.testing.assert_array_equal(found.dequantize(), Float8(given.codes, scales).dequantize())
    assert as_float8(given, fmt, positive=True) is given


def test_zeros_have_a_scale_of_one():
    for fmt in (BLOCKS, ROWS, WHOLE):
        found = as_float8(np.full((3, 5), 1e-38, np.float32), fmt)
        assert (found.scales == 1).all()
        assert not found.dequantize().any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    source = matrix(140, 140, 0)
    source[135, 2] = bad
    for fmt in (BLOCKS, ROWS, WHOLE):
        with pytest.raises(CheckpointError, match="not finite"):
            as_float8(source, fmt)


def test_other_formats_are_refused():
    for fmt in (WeightFormat("int8", 32), WeightFormat("fp8", 64), WeightFormat("fp8", 128, per_tensor=True)):
        with pytest.raises(UnsupportedError, match="as fp8: 128 or 0 is expected"):
            as_float8(matrix(2, 2, 0), fmt)
