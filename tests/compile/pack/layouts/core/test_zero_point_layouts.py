"""Layouts with zero points, read by the operators that they are for, hold what the format's definition says.

Covers: dense and experts, odd sizes, read by MatMulNBits, QMoE and DequantizeLinear
Reference: (code - zero point) * scale in float64 NumPy
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qwen3_compile.pack.layouts import pack
from qwen3_graphs.formats import WeightFormat

Array = np.ndarray

formats = st.sampled_from([16, 32, 64, 128]).map(lambda size: WeightFormat("uint4", size))
widths = st.integers(1, 300)
few = settings(max_examples=40, deadline=None)


def matrix(rows: int, columns: int, seed: int = 0) -> Array:
    """Values that lean to one side, which a format without zero points holds badly."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, columns)) + rng.uniform(-1, 1, (rows, 1))).astype(np.float32)


def nibbles(packed: Array) -> Array:
    """Codes of uint8 [..., b], two in a byte, the earlier in the low half: [..., 2b]."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def read(codes: Array, scales: Array, zero_points: Array, size: int) -> Array:
    """(code - zero point) * scale in float64: [N, K_padded] of the arrays of `nbit_rows`."""
    count = scales.shape[-1]
    zero = np.repeat(nibbles(zero_points)[..., :count].astype(np.float64), size, axis=-1)
    return (nibbles(codes) - zero) * np.repeat(scales.astype(np.float64), size, axis=-1)


def run(node: onnx.NodeProto, weights: list[onnx.TensorProto], feeds: dict[str, Array]) -> Array:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "one", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def stacked(entries: list[tuple[Array, ...]]) -> list[Array]:
    """The arrays of several entries of a recipe, one behind the other."""
    return [np.stack(stack) for stack in zip(*entries, strict=True)]


def arrays(**values: Array) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()]


@few
@given(rows=st.integers(1, 9), columns=widths, fmt=formats)
def test_rows_hold_the_matrix_within_half_a_step_of_every_group(rows: int, columns: int, fmt: WeightFormat) -> None:
    source = matrix(rows, columns)
    codes, scales, zero_points = pack("nbit_rows", (source,), fmt)
    values, groups = read(codes, scales, zero_points, fmt.group_size), -(-columns // fmt.group_size)
    assert codes.shape == (rows, groups * fmt.group_size // 2)
    assert zero_points.shape == (rows, -(-groups // 2))
    assert zero_points.dtype == np.uint8
    assert not values[:, columns:].any()
    # Codes beyond the ends of a group's range are clipped: the plain choice's error bounds the search's sum.
    padded = np.zeros(values.shape)
    padded[:, :columns] = source
    parts = padded.reshape(rows, groups, fmt.group_size)
    step = (np.maximum(parts.max(-1), 0) - np.minimum(parts.min(-1), 0)) / 15
    error = ((values - padded) ** 2).reshape(parts.shape).sum(-1)
    assert (error <= fmt.group_size * step**2 + 1e-12).all()


@few
@given(rows=st.integers(1, 9), columns=widths, fmt=formats)
def test_interleaved_rows_take_turns(rows: int, columns: int, fmt: WeightFormat) -> None:
    gate, up = matrix(rows, columns), matrix(rows, columns, seed=1)
    both = pack("interleaved_nbit_rows", (gate, up), fmt)
    for index, source in enumerate((gate, up)):
        for found, expected in zip(both, pack("nbit_rows", (source,), fmt), strict=True):
            np.testing.assert_array_equal(found[index::2], expected)


@few
@given(rows=st.integers(1, 40), columns=widths, fmt=formats)
def test_matmul_nbits_reads_blocks(rows: int, columns: int, fmt: WeightFormat) -> None:
    source, x = matrix(rows, columns), matrix(3, columns, seed=2)
    codes, scales, zero_points = pack("nbit_blocks", (source,), fmt)
    node = helper.make_node(
        "MatMulNBits",
        ["x", "c", "s", "z"],
        ["y"],
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=4,
        block_size=fmt.group_size,
    )
    found = run(node, arrays(c=codes, s=scales, z=zero_points), {"x": x})
    weight = read(codes.reshape(rows, -1), scales, zero_points, fmt.group_size)[:, :columns]
    np.testing.assert_allclose(found, x.astype(np.float64) @ weight.T, rtol=1e-4, atol=1e-4)


@few
@given(rows=st.integers(1, 20).map(lambda half: 2 * half), columns=widths, fmt=formats)
def test_dequantize_linear_reads_columns(rows: int, columns: int, fmt: WeightFormat) -> None:
    source = matrix(rows, columns)
    codes, scales, zero_points = pack("integer_columns", (source,), fmt)
    count = scales.shape[0]
    weights = [
        onnx.TensorProto(name="c", data_type=TensorProto.UINT4, dims=(columns, rows), raw_data=codes.tobytes()),
        onnx.TensorProto(name="z", data_type=TensorProto.UINT4, dims=(count, rows), raw_data=zero_points.tobytes()),
        *arrays(s=scales),
    ]
    node = helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"], axis=0, block_size=fmt.group_size)
    row_codes, row_scales, row_zero_points = pack("nbit_rows", (source,), fmt)
    expected = read(row_codes, row_scales, row_zero_points, fmt.group_size)[:, :columns].T
    np.testing.assert_allclose(run(node, weights, {}), expected, rtol=1e-6)


@few
@given(hidden=st.integers(1, 4), inner=st.integers(1, 4), size=st.sampled_from([32, 64]), experts=st.integers(2, 5))
def test_qmoe_reads_stacked_rows(hidden: int, inner: int, size: int, experts: int) -> None:
    fmt, hidden, inner = WeightFormat("uint4", size), hidden * size, inner * size
    gate, up, down = (
        [matrix(*shape, seed=10 * expert + part) / np.sqrt(shape[1]) for expert in range(experts)]
        for part, shape in enumerate([(inner, hidden), (inner, hidden), (hidden, inner)])
    )
    upward = stacked([pack("interleaved_nbit_rows", pair, fmt) for pair in zip(gate, up, strict=True)])
    downward = stacked([pack("nbit_rows", (one,), fmt) for one in down])
    names = ["x", "r", "c1", "s1", "", "c2", "s2", "", "", "", "", "z1", "z2"]
    node = helper.make_node(
        "QMoE",
        names,
        ["y"],
        domain="com.microsoft",
        k=1,
        normalize_routing_weights=1,
        activation_type="swiglu",
        swiglu_fusion=1,
        activation_alpha=1.0,
        activation_beta=0.0,
        expert_weight_bits=4,
        block_size=size,
        accuracy_level=1,
    )
    x = matrix(experts, hidden, seed=99)
    weights = arrays(c1=upward[0], s1=upward[1], z1=upward[2], c2=downward[0], s2=downward[1], z2=downward[2])
    found = run(node, weights, {"x": x, "r": 10 * np.eye(experts, dtype=np.float32)})  # token i goes to expert i
    for expert, row in enumerate(x.astype(np.float64)):
        both = read(*(array[expert] for array in upward), size) @ row
        gated = both[0::2] / (1 + np.exp(-both[0::2])) * both[1::2]
        expected = read(*(array[expert] for array in downward), size) @ gated
        np.testing.assert_allclose(found[expert], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
