"""Each layout, read back by the operator's own rules, holds the matrix that was quantized.

Reference: the operators' own rules
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts import pack
from qwen3_compile.quantize import Float8, as_float8, quantize
from qwen3_graphs.formats import WeightFormat

groups = st.builds(WeightFormat, st.sampled_from(["int8", "int4"]), st.sampled_from([16, 32, 64, 128]))
formats = groups | st.just(WeightFormat("int8"))  # one scale per row
shapes = st.tuples(st.integers(1, 9), st.integers(1, 150))
small = settings(max_examples=40, deadline=None)

Array = np.ndarray


def matrix(rows: int, columns: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def worth(source: Array, fmt: WeightFormat) -> Array:
    return quantize(source, fmt).dequantize()[:, : source.shape[1]]


def read_rows(codes: Array, scales: Array, fmt: WeightFormat) -> Array:
    """Offset codes, the low half of a byte first, one byte after the other: the definition, an element at a time."""
    bits = {"int8": 8, "int4": 4}[fmt.kind]
    per_byte, zero = 8 // bits, 1 << (bits - 1)
    values = np.empty((len(codes), codes.shape[1] * per_byte), np.float32)
    for row, column in np.ndindex(values.shape):
        byte = int(codes[row, column // per_byte])
        code = (byte >> (bits * (column % per_byte))) & ((1 << bits) - 1)
        values[row, column] = np.float32(code - zero) * scales[row, column // (fmt.group_size or values.shape[1])]
    return values


@small
@given(shapes, formats)
def test_nbit_rows_hold_offset_codes_padded_to_whole_groups(shape: tuple[int, int], fmt: WeightFormat) -> None:
    source = matrix(*shape)
    codes, scales = pack("nbit_rows", (source,), fmt)
    assert codes.dtype == np.uint8
    assert scales.dtype == np.float32
    values = read_rows(codes, scales, fmt)
    np.testing.assert_array_equal(values[:, : shape[1]], worth(source, fmt))
    assert not values[:, shape[1] :].any()
    assert values.shape[1] % (fmt.group_size or shape[1]) == 0


@small
@given(shapes, formats)
def test_nbit_blocks_are_the_same_bytes_by_group(shape: tuple[int, int], fmt: WeightFormat) -> None:
    codes, scales = pack("nbit_rows", (matrix(*shape),), fmt)
    blocks, same = pack("nbit_blocks", (matrix(*shape),), fmt)
    assert blocks.shape == (*scales.shape, (fmt.group_size or shape[1]) * {"int8": 8, "int4": 4}[fmt.kind] // 8)
    assert blocks.tobytes() == codes.tobytes()
    np.testing.assert_array_equal(scales, same)


@small
@given(shapes, formats)
def test_interleaved_rows_take_turns(shape: tuple[int, int], fmt: WeightFormat) -> None:
    gate, up = matrix(*shape), matrix(*shape, seed=1)
    values = read_rows(*pack("interleaved_nbit_rows", (gate, up), fmt), fmt)[:, : shape[1]]
    np.testing.assert_array_equal(values[0::2], worth(gate, fmt))
    np.testing.assert_array_equal(values[1::2], worth(up, fmt))
    (plain,) = pack("interleaved_rows", (gate, up), WeightFormat("fp32"))
    np.testing.assert_array_equal(plain[0::2], gate)
    np.testing.assert_array_equal(plain[1::2], up)


@small
@given(st.tuples(st.integers(1, 5).map(lambda half: 2 * half), st.integers(1, 150)), formats)
def test_integer_columns_are_what_dequantize_linear_reads(shape: tuple[int, int], fmt: WeightFormat) -> None:
    source = matrix(*shape)
    codes, scales = pack("integer_columns", (source,), fmt)
    dtype = {"int8": TensorProto.INT8, "int4": TensorProto.INT4}[fmt.kind]
    weight = onnx.TensorProto(name="w", data_type=dtype, dims=(shape[1], shape[0]), raw_data=codes.tobytes())
    axis = 0 if fmt.group_size else 1
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"], axis=axis, block_size=fmt.group_size)
    found = run(node, [weight, onnx.numpy_helper.from_array(scales, "s")], {})
    np.testing.assert_array_equal(found, worth(source, fmt).T)


@pytest.mark.parametrize("fmt", [WeightFormat(kind, size) for kind in ("int8", "int4") for size in (32, 128)])
def test_one_set_of_bytes_serves_matmul_nbits_and_gather_block_quantized(fmt: WeightFormat) -> None:
    source, bits = matrix(24, 200), {"int8": 8, "int4": 4}[fmt.kind]
    codes, scales = pack("nbit_blocks", (source,), fmt)
    shared = {"bits": bits, "block_size": fmt.group_size}
    x = matrix(3, 200, seed=2)
    product = helper.make_node("MatMulNBits", ["x", "c", "s"], ["y"], domain="com.microsoft", K=200, N=24, **shared)
    found = run(product, arrays(c=codes, s=scales), {"x": x})
    np.testing.assert_allclose(found, x @ worth(source, fmt).T, rtol=1e-5, atol=1e-5)
    gather = helper.make_node(
        "GatherBlockQuantized", ["c", "i", "s"], ["y"], domain="com.microsoft", quantize_axis=2, **shared
    )
    rows = run(gather, arrays(c=codes, s=scales[:, :, None]), {"i": np.array([5, 0, 23])})
    np.testing.assert_array_equal(rows.reshape(3, -1)[:, :200], worth(source, fmt)[[5, 0, 23]])


def arrays(**values: Array) -> list[onnx.TensorProto]:
    return [onnx.numpy_helper.from_array(value, name) for name, value in values.items()]


def run(node: onnx.NodeProto, weights: list[onnx.TensorProto], feeds: dict[str, Array]) -> Array:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(
        helper.make_graph([node], "one", inputs, [output], weights), opset_imports=opsets, ir_version=10
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize(("kind", "dtype"), [("fp32", np.float32), ("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_rows_convert_vectors_and_matrices(kind: str, dtype: type, stored: type) -> None:
    for source in (matrix(4, 6).astype(stored), matrix(1, 8)[0].astype(stored)):
        (array,) = pack("rows", (source,), WeightFormat(kind))
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, source.astype(np.float32).astype(dtype))


def test_bfloat16_checkpoints_quantize_as_their_float32_values() -> None:
    source, fmt = matrix(6, 70).astype(ml_dtypes.bfloat16), WeightFormat("int4", 32)
    for found, expected in zip(
        pack("nbit_rows", (source,), fmt), pack("nbit_rows", (source.astype(np.float32),), fmt), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_values_beyond_half_precision_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"exceeds the range of fp16 \(65504\)"):
        pack("rows", (np.array([1e6], np.float32),), WeightFormat("fp16"))


def test_an_odd_number_of_int4_columns_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="even number of outputs, found 3"):
        pack("integer_columns", (matrix(3, 32),), WeightFormat("int4", 32))


def test_an_unknown_layout_is_named() -> None:
    with pytest.raises(UnsupportedError, match="unknown weight layout 'tiles'"):
        pack("tiles", (matrix(2, 2),), WeightFormat("fp32"))


def test_an_integer_format_in_a_floating_layout_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="layout rows holds fp32, fp16, bf16, found int8"):
        pack("rows", (matrix(2, 2),), WeightFormat("int8", 32))


@pytest.mark.parametrize("layout", ["rows", "nbit_rows", "integer_columns"])
def test_fp8_in_another_layout_than_panels_is_refused(layout: str) -> None:
    with pytest.raises(UnsupportedError, match=f"layout {layout} holds .*, found fp8"):
        pack(layout, (matrix(2, 2),), WeightFormat("fp8", 128))


@pytest.mark.parametrize("fmt", [WeightFormat("fp32"), WeightFormat("bf16"), WeightFormat("int4", 32)])
def test_a_checkpoints_e4m3_is_dequantized_for_other_formats(fmt: WeightFormat) -> None:
    stored = as_float8(matrix(40, 200), WeightFormat("fp8", 128))
    for layout in ("panels", "rows" if fmt.kind != "int4" else "nbit_rows"):
        found = pack(layout, (stored,), fmt)
        for array, expected in zip(found, pack(layout, (stored.dequantize(),), fmt), strict=True):
            np.testing.assert_array_equal(array, expected)


def read_panels(blob: Array, scales: Array, shape: tuple[int, int], fmt: WeightFormat) -> Array:
    """Rows of panels of 16 by the layout's description, an element at a time."""
    panels, groups = scales.shape[:2]
    width = groups * fmt.group_size
    values = np.empty((panels * 16, width), np.float32)
    for row, k in np.ndindex(values.shape):
        panel, c = divmod(row, 16)
        if fmt.kind == "int4":
            line = blob[panel * 16 * width // 2 + k // 8 * 64 :]
            byte = int(line[4 * c + k % 4])
            code = (byte >> 4 if k % 8 >= 4 else byte & 15) - 8
        else:
            code = int(blob[panel * 16 * width + k // 4 * 64 + 4 * c + k % 4]) - 128
        values[row, k] = np.float32(code) * np.float32(scales[panel, k // fmt.group_size, c])
    assert not values[shape[0] :].any()
    assert not values[:, shape[1] :].any()
    return values[: shape[0], : shape[1]]


panel_formats = st.builds(WeightFormat, st.sampled_from(["int8", "int4"]), st.sampled_from([32, 64, 128]))


@small
@given(st.lists(st.integers(1, 20), min_size=1, max_size=3), st.integers(1, 150), panel_formats)
def test_panels_hold_matrices_one_below_the_other(rows: list[int], columns: int, fmt: WeightFormat) -> None:
    sources = tuple(matrix(count, columns, seed) for seed, count in enumerate(rows))
    blob, scales = pack("panels", sources, fmt)
    assert scales.dtype == np.float16
    found = read_panels(blob, scales, (sum(rows), columns), fmt)
    exact = np.concatenate([worth(source, fmt) for source in sources])
    np.testing.assert_allclose(found, exact, rtol=2**-11, atol=0)


@small
@given(st.integers(1, 40), st.integers(1, 70), panel_formats)
def test_gate_and_up_take_turns_by_panels(rows: int, columns: int, fmt: WeightFormat) -> None:
    gate, up = matrix(rows, columns, 1), matrix(rows, columns, 2)
    blob, scales = pack("gate_up_panels", (gate, up), fmt)
    panels = len(scales)
    halves = read_panels(blob, scales, (panels * 16, columns), fmt).reshape(panels // 2, 2, 16, columns)
    for place, source in enumerate((gate, up)):
        found = halves[:, place].reshape(-1, columns)
        np.testing.assert_allclose(found[:rows], worth(source, fmt), rtol=2**-11, atol=0)
        assert not found[rows:].any()


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("size", [1e-4, 1e-5, 1e-6])
def test_groups_whose_scale_is_coarse_in_float16_lose_little(kind: str, size: float) -> None:
    """Where scales are subnormal, codes are rounded to what is stored: the error stays near that of exact scales."""
    fmt = WeightFormat(kind, 32)
    source = matrix(16, 256) * np.float32(size)
    found = read_panels(*pack("panels", (source,), fmt), source.shape, fmt)
    spacing = np.float32(2.0**-24)  # of subnormal float16
    codes = {"int8": 128, "int4": 8}[kind]
    allowed = np.abs(worth(source, fmt) - source).max() + codes * spacing / 2 + spacing / 2
    assert np.abs(found - source).max() <= allowed
    if size * 3 / codes > 2**-20:  # a scale of at least sixteen steps
        assert np.square(found - source).mean() < 1.4 * np.square(worth(source, fmt) - source).mean()


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_scales_in_panels_are_rounded_to_the_nearest_where_float16_is_fine(kind: str) -> None:
    fmt, source = WeightFormat(kind, 32), matrix(16, 64)
    exact = quantize(source, fmt).scales
    scales = pack("panels", (source,), fmt)[1]
    np.testing.assert_array_equal(scales.reshape(2, 16).T, exact.astype(np.float16))


def test_panels_refuse_scales_beyond_float16() -> None:
    source = matrix(4, 32) * np.float32(1e6)
    with pytest.raises(UnsupportedError, match="too large for int4 with scales in fp16: use bf16 or fp32"):
        pack("panels", (source,), WeightFormat("int4", 32))


@pytest.mark.parametrize(("kind", "dtype"), [("fp32", np.float32), ("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_panels_of_floats_hold_the_values_in_their_type(kind: str, dtype: type) -> None:
    source = matrix(19, 21)
    (blob,) = pack("panels", (source,), WeightFormat(kind))
    values = blob.view(dtype).reshape(2, -1)
    for row, k in np.ndindex(source.shape):
        panel, c = divmod(row, 16)
        place = 32 * (k // 2) + 2 * c + k % 2 if kind == "bf16" else 16 * k + c
        assert values[panel, place] == dtype(source[row, k])


SHARED = [WeightFormat("fp8", 128), WeightFormat("fp8"), WeightFormat("int8")]  # one scale a block, or a row


def read_shared(blob: Array, scales: Array, fmt: WeightFormat) -> tuple[Array, Array]:
    """Codes uint8 [16 * panels, padded K] and each one's scale, by the layout's description, an element at a time."""
    width = len(blob) // (16 * len(scales))
    codes = np.empty((16 * len(scales), width), np.uint8)
    spread = np.empty(codes.shape, np.float32)
    for row, k in np.ndindex(codes.shape):
        panel, c = divmod(row, 16)
        codes[row, k] = blob[panel * 16 * width + (16 * k + c if fmt.kind == "fp8" else k // 4 * 64 + 4 * c + k % 4)]
        spread[row, k] = scales[panel, k // 128 if fmt.group_size else c]
    return codes, spread


def worth_shared(source: Array, fmt: WeightFormat) -> Array:
    return as_float8(source, fmt).dequantize() if fmt.kind == "fp8" else worth(source, fmt)


def values_shared(blob: Array, scales: Array, fmt: WeightFormat) -> Array:
    assert scales.dtype == np.float32
    codes, spread = read_shared(blob, scales, fmt)
    plain = (
        codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32) if fmt.kind == "fp8" else codes.astype(np.int16) - 128
    )
    return (plain * spread).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from(SHARED),
)
def test_matrices_with_a_scale_a_row_or_a_block_lie_one_below_the_other(
    above: list[int], last: int, columns: int, fmt: WeightFormat
) -> None:
    rows = [*(16 * count for count in above), last]
    sources = tuple(matrix(count, columns, seed) for seed, count in enumerate(rows))
    found = values_shared(*pack("panels", sources, fmt), fmt)
    expected = np.concatenate([worth_shared(source, fmt) for source in sources])
    np.testing.assert_array_equal(found[: sum(rows), :columns], expected)
    assert not found[sum(rows) :].any()
    assert not found[:, columns:].any()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from(SHARED))
def test_gate_and_up_with_a_scale_a_row_or_a_block_take_turns(rows: int, columns: int, fmt: WeightFormat) -> None:
    gate, up = matrix(rows, columns, 1), matrix(rows, columns, 2)
    found = values_shared(*pack("gate_up_panels", (gate, up), fmt), fmt)[:, :columns]
    halves = found.reshape(len(found) // 32, 2, 16, columns)
    for place, source in enumerate((gate, up)):
        part = halves[:, place].reshape(-1, columns)
        np.testing.assert_array_equal(part[:rows], worth_shared(source, fmt))
        assert not part[rows:].any()


@pytest.mark.parametrize("fmt", SHARED[:2])
def test_a_checkpoints_e4m3_reaches_the_panels_bit_for_bit(fmt: WeightFormat) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 127, (208, 300), dtype=np.uint8) | rng.integers(0, 2, (208, 300), dtype=np.uint8) << 7
    scales = rng.uniform(1e-5, 1e-2, (2, 3) if fmt.group_size else 208).astype(np.float32)
    stored = Float8(codes.astype(np.uint8), scales)
    found, spread = read_shared(*pack("panels", (stored,), fmt), fmt)
    np.testing.assert_array_equal(found[:208, :300], codes)
    expected = np.kron(scales, np.ones((128, 128), np.float32))[:208, :300] if fmt.group_size else scales[:, None]
    np.testing.assert_array_equal(spread[:208, :300], np.broadcast_to(expected, codes.shape))


def test_blocks_of_two_matrices_that_meet_in_a_panel_are_refused() -> None:
    sources = (matrix(24, 40), matrix(16, 40))
    with pytest.raises(UnsupportedError, match=r"matrices of \[24, 16\] rows meet within a panel of 16"):
        pack("panels", sources, WeightFormat("fp8", 128))
    pack("panels", sources[::-1], WeightFormat("fp8", 128))
