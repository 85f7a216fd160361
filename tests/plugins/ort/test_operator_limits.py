"""Attributes and sizes beyond what operators take are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException
from operator_session import open_session, run_operator
from paged_attention import make_step
from test_attention_operator import attributes_of, inputs_of
from test_head_operator import OUTPUTS, Case
from test_linear_operator import case as linear_case
from test_moe_operator import case as moe_case

OPERATORS = ("Embedding", "Linear", "Attention", "MoE", "Head")


def node(operator: str) -> tuple[dict[str, np.ndarray | None], list[str], dict[str, object]]:
    """Inputs, names of outputs and attributes of a node that is as it should be."""
    if operator == "Attention":
        step = make_step(0, heads=4, kv_heads=2, head_dim=32, block=8, new=[3, 1], context=[5, 0])
        return inputs_of(step), ["out"], attributes_of(step)
    if operator == "MoE":
        _, inputs, attributes = moe_case()
        return inputs, ["y"], {**attributes, "normalize": 1, "epsilon": 1e-6}
    if operator == "Head":
        head = Case("int4", 32)
        return head.inputs, OUTPUTS, head.attributes
    _, inputs, attributes = linear_case()
    if operator == "Linear":
        order = {name: inputs.get(name) for name in ("x", "codes", "scales", "norm_weight", "residual")}
        return order, ["y"], {**attributes, "precise": 0, "epsilon": 1e-6}
    table = {"ids": np.array([3], np.int64), "codes": inputs["codes"], "scales": inputs["scales"]}
    return table, ["out"], attributes


LIMITS = {
    "n": (1, 1 << 24), "k": (1, 1 << 20), "hidden": (1, 1 << 20), "intermediate": (1, 1 << 20), "experts": (1, 4096),
    "top_k": (1, 4096), "num_heads": (1, 4096), "kv_num_heads": (1, 4096), "head_dim": (2, 1024),
    "group_size": (0, 128), "precise": (0, 1), "normalize": (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_node_itself_is_accepted(operator: str) -> None:
    inputs, outputs, attributes = node(operator)
    for result in run_operator(operator, inputs, outputs, **attributes):
        assert not np.isnan(result).any()


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_integer_has_limits(operator: str) -> None:
    inputs, outputs, attributes = node(operator)
    for name in (name for name, value in attributes.items() if isinstance(value, int)):
        lowest, highest = LIMITS[name]
        powers = [1 << power for power in (21, 25, 31, 58, 59, 60, 61, 62)]
        for value in (lowest - 1, highest + 1, -1, -(1 << 63), (1 << 63) - 1, *(p for p in powers if p > highest)):
            with pytest.raises(RuntimeException) as caught:
                open_session(operator, inputs, outputs, **{**attributes, name: value})
            assert f"{name} is {value}, expected {lowest} to {highest}" in str(caught.value)


@pytest.mark.parametrize("operator", [operator for operator in OPERATORS if operator != "Embedding"])
@pytest.mark.parametrize("value", [-1e-6, 1.5, np.nan, np.inf, -np.inf])
def test_epsilon_is_a_small_number(operator: str, value: float) -> None:
    inputs, outputs, attributes = node(operator)
    with pytest.raises(RuntimeException, match=r"epsilon is .*, expected 0 to 1"):
        open_session(operator, inputs, outputs, **{**attributes, "epsilon": value})


@pytest.mark.parametrize(
    ("operator", "name", "value", "expected"),
    [
        ("Linear", "group_size", 32.0, "an integer"),
        ("Linear", "precise", "1", "an integer"),
        ("Head", "epsilon", 1, "a float"),
        ("MoE", "epsilon", "1e-6", "a float"),
        ("MoE", "router_format", 16, "a string"),
        ("Linear", "activation", 1, "a string"),
        ("Linear", "group_size", [32], "an integer"),
        ("Linear", "precise", [1.0], "an integer"),
        ("Linear", "precise", ["1"], "an integer"),
        ("Linear", "activation", ["swiglu"], "a string"),
        ("Linear", "activation", helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]), "a string"),
        ("Head", "epsilon", [1e-6], "a float"),
        ("Head", "epsilon", [1], "a float"),
        ("Attention", "epsilon", [1e-6, 1e-6], "a float"),
        ("MoE", "normalize", [1.0, 2.0], "an integer"),
        ("MoE", "router_format", ["fp32"], "a string"),
    ],
)
def test_an_attribute_of_another_type_is_not_taken_for_a_missing_one(
    operator: str, name: str, value: object, expected: str
) -> None:
    inputs, outputs, attributes = node(operator)
    with pytest.raises(RuntimeException, match=f"{name} has another type, expected {expected}"):
        open_session(operator, inputs, outputs, **{**attributes, name: value})


@pytest.mark.parametrize(
    ("operator", "name", "value"),
    [("Linear", "n", [48]), ("Linear", "k", [64.0]), ("MoE", "experts", [6]), ("Attention", "head_dim", [32.0])],
)
def test_a_list_is_not_taken_for_a_number_that_is_needed(operator: str, name: str, value: object) -> None:
    inputs, outputs, attributes = node(operator)
    with pytest.raises(RuntimeException, match=f"{name} has another type, expected an integer"):
        open_session(operator, inputs, outputs, **{**attributes, name: value})


def test_a_cache_that_the_model_holds_is_refused() -> None:
    inputs, outputs, attributes = node("Attention")
    with pytest.raises(RuntimeException, match="kv is stored in the model, expected an input"):
        open_session("Attention", inputs, outputs, constants=("kv",), **attributes)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("kv", (0, 2, 2, 1 << 40, 32), "the number of tokens in a cache block is 1099511627776, expected 1 to 1048576"),
        ("kv", (9, 2, 2, 0, 32), "the number of tokens in a cache block is 0, expected 1"),
        ("kv", (1 << 40, 2, 2, 0, 32), "the number of cache blocks is 1099511627776, expected 0 to 2147483647"),
    ],
)
def test_sizes_of_an_empty_cache_are_not_multiplied(name: str, shape: tuple[int, ...], reason: str) -> None:
    inputs, outputs, attributes = node("Attention")
    with pytest.raises(InvalidArgument) as caught:
        run_operator("Attention", {**inputs, name: np.zeros(shape, np.float16)}, outputs, **attributes)
    assert reason in str(caught.value)


def test_rows_are_limited() -> None:
    inputs, outputs, attributes = node("Embedding")
    ids = np.zeros((1 << 20) + 1, np.int64)
    with pytest.raises(InvalidArgument, match="the number of rows is 1048577, expected 0 to 1048576"):
        run_operator("Embedding", {**inputs, "ids": ids}, outputs, **attributes)


def test_a_matrix_in_an_unaligned_place_is_refused() -> None:
    matrix, inputs, attributes = linear_case("fp32", 0)
    memory = np.zeros(matrix.codes.nbytes + 1, np.uint8)
    codes = memory[1:] if memory.ctypes.data % 4 == 0 else memory[:-1]
    codes[:] = matrix.codes
    session = open_session("Linear", {"x": inputs["x"], "codes": codes}, ["y"], **attributes)
    binding = session.io_binding()
    for name, value in {"x": inputs["x"], "codes": codes}.items():
        binding.bind_input(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
    binding.bind_output("y", "cpu")
    with pytest.raises(RuntimeError, match="codes do not begin at a multiple of 4 bytes"):
        session.run_with_iobinding(binding)
