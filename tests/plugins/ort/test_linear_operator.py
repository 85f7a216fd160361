"""qwen3::Linear through ONNX Runtime sessions: the graph's view, and what is refused.

Covers: damaged inputs are refused
Reference: float64 NumPy
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from linear_native import Packed, normalized, random_matrix, silu
from onnx import TensorProto, helper

from qwen3_plugins.ort import library_path

OPTIONAL = ("scales", "norm_weight", "residual")


def session(inputs: dict[str, np.ndarray], constants: tuple[str, ...] = (), **attributes: object):
    names = ["x", "codes", *(name if name in inputs else "" for name in OPTIONAL)]
    while not names[-1]:
        names.pop()
    node = helper.make_node("Linear", names, ["y"], domain="qwen3", **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim if name == "x" else value.shape
            )
            for name, value in inputs.items()
            if name not in constants
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(inputs[name], name) for name in constants],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("qwen3", 1)], ir_version=10
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    options.register_custom_ops_library(os.environ.get("QWEN3_ORT_LIBRARY") or str(library_path()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(inputs: dict[str, np.ndarray], constants: tuple[str, ...] = (), **attributes: object) -> np.ndarray:
    feeds = {name: value for name, value in inputs.items() if name not in constants}
    return session(inputs, constants, **attributes).run(None, feeds)[0]


def case(fmt: str = "int4", group_size: int = 32, n: int = 48, k: int = 64, rows: int = 3):
    rng = np.random.default_rng(5)
    matrix = random_matrix(rng, fmt, group_size, n, k)
    inputs = {"x": rng.normal(size=(rows, k)).astype(np.float32), "codes": matrix.codes}
    if matrix.scales is not None:
        inputs["scales"] = matrix.scales
    attributes = {"format": fmt, "n": n, "k": k, "group_size": group_size}
    return matrix, inputs, attributes


@pytest.mark.parametrize(
    ("fmt", "group_size"),
    [("int4", 32), ("int4", 128), ("uint4", 32), ("uint4", 128), ("int8", 64), ("int8", 0), ("fp8", 128), ("fp16", 0),
     ("bf16", 0), ("fp32", 0)],
)  # fmt: skip
@pytest.mark.parametrize("rows", [0, 1, 20])
def test_norm_weights_and_residual_in_one_node(fmt: str, group_size: int, rows: int) -> None:
    matrix, inputs, attributes = case(fmt, group_size, n=50, k=256, rows=rows)
    rng = np.random.default_rng(1)
    inputs["norm_weight"] = rng.normal(size=256).astype(np.float32)
    inputs["residual"] = rng.normal(size=(rows, 50)).astype(np.float32)
    constants = tuple(name for name in ("codes", "scales", "norm_weight") if name in inputs)
    result = run(inputs, constants, epsilon=1e-5, precise=1, **attributes)
    exact = normalized(inputs["x"], inputs["norm_weight"], 1e-5) @ matrix.values.T + inputs["residual"]
    np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fmt", ["int4", "uint4"])
def test_swiglu_halves_the_width(fmt: str) -> None:
    gate, inputs, attributes = case(fmt, n=32, rows=2)
    up = random_matrix(np.random.default_rng(9), fmt, 32, 32, 64)
    panels = np.stack([gate.codes.reshape(2, -1), up.codes.reshape(2, -1)], axis=1)
    inputs["codes"] = panels.reshape(-1)
    inputs["scales"] = np.stack([gate.scales, up.scales], axis=1).reshape(4, 2, -1)
    result = run(inputs, **{**attributes, "n": 64, "activation": "swiglu", "precise": 1})
    x = inputs["x"].astype(np.float64)
    np.testing.assert_allclose(result, silu(x @ gate.values.T) * (x @ up.values.T), rtol=1e-4, atol=1e-4)


def test_weights_are_read_where_they_are_mapped(tmp_path: Path) -> None:
    matrix, inputs, attributes = case("int4", 32, n=4096, k=2048, rows=1)
    assert isinstance(matrix, Packed)
    node = helper.make_node("Linear", ["x", "codes", "scales"], ["y"], domain="qwen3", **attributes)
    blob = tmp_path / "weights.bin"
    tensors, offset = [], 0
    with blob.open("wb") as file:
        for name in ("codes", "scales"):
            file.write(b"\0" * (offset - file.tell()))
            tensor = onnx.TensorProto(name=name, data_location=TensorProto.EXTERNAL, dims=inputs[name].shape)
            tensor.data_type = helper.np_dtype_to_tensor_dtype(inputs[name].dtype)
            length = file.write(inputs[name].tobytes())
            for key, value in (("location", blob.name), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            offset = -(-(offset + length) // 4096) * 4096
    graph = helper.make_graph(
        [node],
        "mapped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2048])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("qwen3", 1)], ir_version=10)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(os.environ.get("QWEN3_ORT_LIBRARY") or str(library_path()))
    opened = onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    before = anonymous_bytes()
    result = opened.run(None, {"x": inputs["x"]})[0]
    assert anonymous_bytes() - before < 2 << 20
    assert np.corrcoef(result[0], (inputs["x"] @ matrix.values.T)[0])[0, 1] > 0.999


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "int3"}, "format is 'int3'"),
        ({"group_size": 48}, "group_size is 48 for int4"),
        ({"format": "uint4", "group_size": 0}, "group_size is 0 for uint4 weights, expected 32, 64 or 128"),
        ({"group_size": -32}, "group_size is -32"),
        ({"n": 0}, "n is 0, expected 1 to"),
        ({"n": -16}, "n is -16, expected 1 to"),
        ({"k": 1 << 40}, "k is 1099511627776, expected 1 to"),
        ({"n": 49, "activation": "swiglu"}, "even n"),
        ({"activation": "gelu"}, "expected none or swiglu"),
    ],
)
def test_attributes_are_checked_when_the_session_opens(change: dict[str, object], message: str) -> None:
    _, inputs, attributes = case()
    with pytest.raises(Exception, match=message):
        session(inputs, **{**attributes, **change})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", np.zeros((3, 65), np.float32), r"x is float32 \[3, 65\], expected shape \[any, 64\]"),
        ("x", np.zeros((3, 1, 64), np.float32), "expected shape"),
        ("codes", np.zeros(1535, np.uint8), "codes have 1535 bytes, expected 1536"),
        ("codes", np.zeros(0, np.uint8), "codes have 0 bytes"),
        ("scales", np.zeros((3, 2, 16), np.float32), r"scales are float32 \[3, 2, 16\], expected 96 of float16"),
        ("scales", np.zeros((3, 1, 16), np.float16), "expected 96 of float16"),
        ("scales", np.full((3, 2, 16), np.nan, np.float16), "scales hold NaN or infinity"),
        ("scales", np.full((3, 2, 16), -np.inf, np.float16), "scales hold NaN or infinity"),
        ("norm_weight", np.zeros(63, np.float32), "norm_weight is"),
        ("residual", np.zeros((2, 48), np.float32), "residual is"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(name: str, value: np.ndarray, message: str) -> None:
    _, inputs, attributes = case()
    with pytest.raises(Exception, match=message):
        run({**inputs, name: value}, **attributes)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.zeros((3, 2, 16), np.float16),
            r"scales are float16 \[3, 2, 16\], expected 240 of uint8 \(with zero points\)",
        ),
        (np.zeros((3, 2, 32), np.uint8), r"scales are uint8 \[3, 2, 32\], expected 240 of uint8"),
        (np.zeros((3, 2, 40), np.int8), r"scales are int8 \[3, 2, 40\], expected 240 of uint8"),
        (np.zeros((3, 2, 20), np.float16), r"scales are float16 \[3, 2, 20\], expected 240 of uint8"),
        (np.full((3, 2, 40), 0x7C, np.uint8), "scales hold NaN or infinity"),
    ],
)
def test_zero_points_of_another_type_or_shape_are_refused(value: np.ndarray, message: str) -> None:
    _, inputs, attributes = case("uint4")
    with pytest.raises(Exception, match=message):
        run({**inputs, "scales": value}, **attributes)


def test_zero_points_of_any_bits_are_taken() -> None:
    _, inputs, attributes = case("uint4")
    inputs["scales"][:, :, 32:] = 0xFF  # a NaN, were it a scale
    assert np.isfinite(run(inputs, **attributes)).all()


@pytest.mark.parametrize(("fmt", "expected"), [("int4", "96 of float16"), ("uint4", "240 of uint8")])
def test_missing_scales_are_refused(fmt: str, expected: str) -> None:
    _, inputs, attributes = case(fmt)
    del inputs["scales"]
    with pytest.raises(Exception, match=f"scales are .*, expected {expected}"):
        run(inputs, **attributes)


def test_a_scale_that_is_no_number_is_found_in_float32_scales_too() -> None:
    _, inputs, attributes = case("int8", 0)
    inputs["scales"][1, 3] = np.nan
    with pytest.raises(Exception, match="scales hold NaN or infinity"):
        run(inputs, **attributes)
