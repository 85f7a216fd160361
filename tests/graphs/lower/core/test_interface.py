"""Each target's graph has the inputs and outputs that its interface declares; a new input is one declaration."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
import pytest
from lowered_engine import CONTEXT, DENSE, LIMITS, precision

from qwen3_graphs import interface
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.interface import StepInput, StepInterface, StepModel
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Plugins, Precision
from qwen3_graphs.trace import trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.model import Output

HALF = Precision(*(WeightFormat("fp16"),) * 3, "fp16", "fp16", quantized_activations=False)
# Target, plugins, formats, and the interface for a model.
TARGETS: dict[str, tuple[str, Plugins | None, Precision, Callable[[StepModel], StepInterface]]] = {
    "ort_plugins": ("ort_plugins", None, precision(kv_cache="fp16"), interface.packed_plugins),
    "ort_plugins int8": ("ort_plugins", None, precision(kv_cache="int8"), interface.packed_plugins),
    "ort": ("ort", None, precision(), interface.padded),
    "ort fp16": ("ort", None, precision(kv_cache="fp16"), interface.padded),
    "cuda": ("ort", None, HALF, interface.padded),
    "onnx": ("onnx", None, precision(), interface.padded),
    "tensorrt": ("tensorrt", None, HALF, lambda model: interface.padded_batch(model, CONTEXT)),
    "tensorrt plugins": (
        "tensorrt",
        Plugins(attention=True, block_size=32),
        HALF,
        lambda model: interface.packed(model, 32),
    ),
}
TYPES: dict[str, interface.Element] = {"fp32": "FLOAT", "fp16": "FLOAT16", "int8": "INT8"}


def described(values: list[onnx.ValueInfoProto]) -> list[tuple[str, str, tuple[int | str, ...]]]:
    return [
        (
            value.name,
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    ]


def declared(tensors: tuple[interface.StepTensor, ...]) -> list[tuple[str, str, tuple[int | str, ...]]]:
    return [(each.name, each.element, each.shape) for each in tensors]


@cache
def traced(architecture: Architecture, output: Output, inputs: tuple[StepInput, ...]) -> ir.Model:
    """The semantic graph, once for all targets; `inputs` are those that the interface declares now."""
    assert inputs == interface.PACKED
    return trace(architecture, output=output, max_context=CONTEXT)


def graph_and_interface(target: str, output: Output) -> tuple[onnx.GraphProto, StepInterface]:
    backend, plugins, formats, make = TARGETS[target]
    architecture = replace(DENSE, head_dim=64) if plugins else DENSE
    semantic = traced(architecture, output, interface.PACKED)
    width = architecture.vocab_size if output == "logits" else architecture.hidden_size
    model = StepModel(
        architecture.num_hidden_layers,
        architecture.num_key_value_heads,
        architecture.head_dim,
        TYPES[formats.kv_cache],
        output,
        width,
    )
    return ir.to_proto(lower(semantic, backend, formats, LIMITS, plugins).model).graph, make(model)


@pytest.mark.parametrize("output", ["logits", "hidden"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_lowered_graph_has_what_its_interface_declares(target: str, output: Output) -> None:
    graph, found = graph_and_interface(target, output)
    assert described(graph.input) == declared(found.inputs)
    assert described(graph.output) == declared(found.outputs)


@pytest.mark.parametrize("target", TARGETS)
def test_a_further_input_is_one_declaration(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = StepInput("adapter_ids", "INT32", ("B",), "lengths")
    for name in ("PACKED", "PADDED"):
        monkeypatch.setattr(interface, name, (*getattr(interface, name), adapters))
    graph, found = graph_and_interface(target, "logits")
    assert adapters in found.fed
    assert described(graph.input) == declared(found.inputs)


def test_every_dimension_has_words() -> None:
    model = StepModel(1, 2, 64, "INT8", "logits", 90)
    for found in (interface.packed(model), interface.packed_plugins(model), interface.padded(model)):
        for each in (*found.inputs, *found.outputs):
            assert {size for size in each.shape if isinstance(size, str)} <= interface.DIMENSIONS.keys()


def test_each_input_is_filled_once() -> None:
    found = interface.packed_plugins(StepModel(2, 2, 64, "INT8", "logits", 90))
    assert {each.name for each in found.caches} == {"kv.0", "kv.1", "kv_scales.0", "kv_scales.1"}
    assert [each.name for each in found.constants] == ["live_vocab"]
    assert {*found.caches, *found.constants, *found.fed} == set(found.inputs)
    assert found.written == {}
    assert {
        name: each.name for name, each in interface.padded(StepModel(1, 2, 64, "FLOAT", "hidden", 8)).written.items()
    } == {
        "kv.0.key": "kv_out.0.key",
        "kv.0.value": "kv_out.0.value",
    }
