"""qwen3::MoE through ONNX Runtime sessions: the graph's view, and what is refused.

Reference: float64 NumPy
"""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
import pytest
from linear_native import normalized
from onnx import TensorProto, helper
from test_moe_kernels import Mixture, expected, random_mixture

from qwen3_plugins import layouts
from qwen3_plugins.ort import library_path

NAMES = ("x", "norm_weight", "router", "gate_up", "gate_up_scales", "down", "down_scales", "residual")


def case(fmt: str = "int4", group_size: int = 32, rows: int = 5) -> tuple[Mixture, dict, dict]:
    rng = np.random.default_rng(4)
    mixture = random_mixture(rng, fmt, group_size, experts=6, top_k=2, hidden=64, inner=40)
    gate_up, gate_up_scales = mixture.stacked("gate_up")
    down, down_scales = mixture.stacked("down")
    inputs = {
        "x": rng.normal(size=(rows, 64)).astype(np.float32),
        "norm_weight": rng.normal(size=64).astype(np.float32),
        "router": layouts.pack_fp32(mixture.router),
        "gate_up": gate_up,
        "gate_up_scales": gate_up_scales,
        "down": down,
        "down_scales": down_scales,
        "residual": rng.normal(size=(rows, 64)).astype(np.float32),
    }
    attributes = {
        "format": fmt, "group_size": group_size, "experts": 6, "top_k": 2, "hidden": 64, "intermediate": 40,
        "precise": 1,
    }  # fmt: skip
    return mixture, inputs, attributes


def session(inputs: dict[str, np.ndarray | None], **attributes: object) -> onnxruntime.InferenceSession:
    node = helper.make_node(
        "MoE", [n if inputs[n] is not None else "" for n in NAMES], ["y"], domain="qwen3", **attributes
    )
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in inputs.items()
        if value is not None
    ]
    graph = helper.make_graph([node], "one", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("qwen3", 1)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    options.register_custom_ops_library(os.environ.get("QWEN3_ORT_LIBRARY") or str(library_path()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(inputs: dict[str, np.ndarray | None], **attributes: object) -> np.ndarray:
    return session(inputs, **attributes).run(None, {n: v for n, v in inputs.items() if v is not None})[0]


@pytest.mark.parametrize(("fmt", "group_size"), [("int4", 32), ("uint4", 32), ("int8", 0), ("bf16", 0)])
@pytest.mark.parametrize("rows", [0, 1, 9])
def test_norm_experts_and_residual_in_one_node(fmt: str, group_size: int, rows: int) -> None:
    mixture, inputs, attributes = case(fmt, group_size, rows)
    result = run(inputs, **attributes)
    normed = normalized(inputs["x"], inputs["norm_weight"], 1e-6)
    exact = expected(mixture, normed, normalize=True, integers=False) + inputs["residual"]
    np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-3)


def test_the_router_may_be_bfloat16() -> None:
    mixture, inputs, attributes = case()
    inputs["router"] = layouts.pack_bf16(mixture.router)
    bits = mixture.router.view(np.uint32)
    mixture.router = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
    normed = normalized(inputs["x"], inputs["norm_weight"], 1e-6)
    exact = expected(mixture, normed, normalize=True, integers=False) + inputs["residual"]
    np.testing.assert_allclose(run(inputs, **attributes, router_format="bf16"), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experts": 0}, "experts is 0"),
        ({"experts": -1}, "experts is -1"),
        ({"top_k": 7}, "top_k is 7, expected 1 to 6"),
        ({"top_k": 0}, "top_k is 0"),
        ({"hidden": -64}, "hidden is -64, expected 1 to"),
        ({"intermediate": 0}, "intermediate is 0, expected 1 to"),
        ({"intermediate": 1 << 62}, "intermediate is 4611686018427387904, expected 1 to"),
        ({"router_format": "int4"}, "group_size is 0 for int4"),
        ({"router_format": "fp8"}, "router_format"),
    ],
)
def test_attributes_are_checked_when_the_session_opens(change: dict[str, object], message: str) -> None:
    _, inputs, attributes = case()
    with pytest.raises(Exception, match=message):
        session(inputs, **{**attributes, **change})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", np.zeros((3, 65), np.float32), "x is float32"),
        ("x", np.zeros(64, np.float32), "x is float32"),
        ("router", np.zeros(5, np.uint8), "codes have 5 bytes"),
        ("gate_up", np.zeros(5, np.uint8), "codes have 5 bytes"),
        ("down", np.zeros(0, np.uint8), "codes have 0 bytes"),
        ("down_scales", np.zeros((6, 4), np.float16), "scales are float16"),
        ("gate_up_scales", None, "scales are"),
        ("gate_up_scales", np.zeros((36, 2, 40), np.uint8), "scales are uint8"),
        ("norm_weight", np.zeros(65, np.float32), "norm_weight is"),
        ("residual", np.zeros((4, 64), np.float32), "residual is"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(name: str, value: np.ndarray | None, message: str) -> None:
    _, inputs, attributes = case()
    with pytest.raises(Exception, match=message):
        run({**inputs, name: value}, **attributes)


@pytest.mark.parametrize("name", ["gate_up_scales", "down_scales"])
def test_zero_points_are_wanted_for_every_expert(name: str) -> None:
    _, inputs, attributes = case("uint4")
    with pytest.raises(Exception, match=r"scales are uint8 .*, expected \d+ of uint8 \(with zero points\)"):
        run({**inputs, name: inputs[name][:-1]}, **attributes)


@pytest.mark.parametrize("fmt", ["int4", "uint4"])
def test_damaged_scales_are_refused_when_their_expert_is_chosen(fmt: str) -> None:
    _, inputs, attributes = case(fmt, rows=40)
    halves = inputs["down_scales"].view(np.float16)
    halves[3 * len(halves) // 6] = np.nan
    with pytest.raises(Exception, match="scales hold NaN or infinity"):
        run(inputs, **attributes)
