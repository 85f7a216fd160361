"""Layouts in columns, read back by ONNX's own DequantizeLinear, hold the matrix within its format's step.

Reference: ONNX's DequantizeLinear
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts import pack
from qwen3_compile.quantize import Float8
from qwen3_graphs.formats import WeightFormat

INT8, FP8, FP8_TENSOR = WeightFormat("int8"), WeightFormat("fp8"), WeightFormat("fp8", per_tensor=True)
CODES = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN, "int4": TensorProto.INT4}
SCALES = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
small = settings(max_examples=25, deadline=None)


def matrix(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows * columns).standard_normal((rows, columns)).astype(np.float32)


def dequantized(codes: np.ndarray, scales: np.ndarray, fmt: WeightFormat, shape: tuple[int, int]) -> np.ndarray:
    """The matrix [N, K] that the bytes stand for, by the reference evaluator with float32 scales."""
    held = helper.make_tensor("codes", CODES[fmt.kind], shape[::-1], codes.tobytes(), raw=True)
    wide = scales.astype(np.float32)
    attributes = {"axis": 0, "block_size": fmt.group_size} if fmt.group_size else {"axis": 1} if scales.ndim else {}
    node = helper.make_node("DequantizeLinear", ["codes", "scales"], ["matrix"], **attributes)
    out = helper.make_tensor_value_info("matrix", TensorProto.FLOAT, shape[::-1])
    scale = helper.make_tensor("scales", TensorProto.FLOAT, wide.shape, wide.tobytes(), raw=True)
    graph = helper.make_graph([node], "read", [], [out], [held, scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    return np.asarray(ReferenceEvaluator(model).run(None, {})[0]).T


@small
@given(st.integers(1, 40), st.integers(1, 90))
def test_int8_by_output_is_within_half_a_step(outputs: int, inputs: int) -> None:
    source = matrix(outputs, inputs)
    codes, scales = pack("scaled_columns", (source,), INT8)
    assert (codes.shape, codes.dtype, scales.shape, scales.dtype) == (
        (inputs, outputs),
        np.int8,
        (outputs,),
        np.float32,
    )
    assert (scales > 0).all()
    error = np.abs(dequantized(codes, scales, INT8, source.shape) - source)
    # The scale of least squared error may clip the largest value of a row by a step.
    assert (error <= 1.5 * scales[:, None]).all()
    assert error.mean() <= 0.3 * scales.mean()


@small
@given(st.integers(1, 40), st.integers(1, 90), st.sampled_from([FP8, FP8_TENSOR]))
def test_fp8_is_within_a_sixteenth_of_each_value(outputs: int, inputs: int, fmt: WeightFormat) -> None:
    source = matrix(outputs, inputs)
    codes, scales = pack("scaled_columns", (source,), fmt)
    assert (codes.shape, codes.dtype) == ((inputs, outputs), ml_dtypes.float8_e4m3fn)
    assert (scales.shape, scales.dtype) == (() if fmt.per_tensor else (outputs,), np.float32)
    assert (np.asarray(scales) > 0).all()
    values = codes.astype(np.float32).T * (scales if fmt.per_tensor else scales[:, None])
    smallest_step = np.float32(2.0**-9) * np.max(scales)
    assert (np.abs(values - source) <= np.abs(source) / 16 + smallest_step).all()


@pytest.mark.parametrize("scale_type", ["fp16", "bf16"])
@small
@given(outputs=st.integers(1, 12), groups=st.integers(1, 4), size=st.sampled_from([32, 64, 128]))
def test_int4_in_groups_is_within_a_step_with_narrow_scales(
    scale_type: str, outputs: int, groups: int, size: int
) -> None:
    fmt, source = WeightFormat("int4", size), matrix(2 * outputs, groups * size)
    codes, scales = pack(f"scaled_columns_{scale_type}", (source,), fmt)
    assert (codes.shape, codes.dtype) == ((groups * size, outputs), np.uint8)
    assert (scales.shape, scales.dtype) == ((groups, 2 * outputs), SCALES[scale_type])
    assert (scales.astype(np.float32) > 0).all()
    step = np.repeat(scales.astype(np.float32), size, axis=0).T
    error = np.abs(dequantized(codes, scales, fmt, source.shape) - source)
    assert (error <= 4 * step).all()  # the largest value may be clipped by some codes
    assert (error <= 0.5001 * step).mean() > 0.9


@pytest.mark.parametrize(("kind", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_floating_columns_are_the_transposed_matrix(kind: str, dtype: type) -> None:
    source = matrix(5, 7)
    (columns,) = pack("columns", (source,), WeightFormat(kind))
    assert columns.flags.c_contiguous
    np.testing.assert_array_equal(columns, source.astype(dtype).T)


def test_a_checkpoints_codes_reach_the_columns_bit_for_bit() -> None:
    codes = np.arange(126, dtype=np.uint8).reshape(6, 21)
    scales = np.linspace(0.5, 2, 6, dtype=np.float32)
    packed, kept = pack("scaled_columns", (Float8(codes, scales),), FP8)
    np.testing.assert_array_equal(packed.view(np.uint8), codes.T)
    np.testing.assert_array_equal(kept, scales)


@pytest.mark.parametrize(
    ("layout", "fmt", "shape", "message"),
    [
        ("scaled_columns", WeightFormat("int8", 32), (4, 64), "per-channel, found int8 per-group 32"),
        ("scaled_columns_fp16", WeightFormat("int4", 32), (3, 64), "even number of outputs .* found int4 of 3 outputs"),
        (
            "scaled_columns_bf16",
            WeightFormat("int4", 32),
            (4, 40),
            "whole groups of inputs, found int4 of 4 outputs and 40",
        ),
        ("columns", INT8, (4, 4), "holds fp32, fp16, bf16, found int8"),
        ("columns", FP8, (4, 4), "layout columns holds fp32, fp16, bf16, found fp8"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused(
    layout: str, fmt: WeightFormat, shape: tuple[int, int], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        pack(layout, (matrix(*shape),), fmt)
