"""Running the file that TensorRT imports on ONNX Runtime's CPU provider, as the file says.

The provider has no arithmetic in bfloat16: `executable` gives each such operator float32 inputs and rounds what it
returns. That is the same computation; a bfloat16 product is a float32 sum rounded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIMIZATION = "ORT_ENABLE_BASIC"
"""The highest `GraphOptimizationLevel` that keeps the file's meaning: those above fuse Q/DQ nodes into their users."""

# Operators that the provider runs in bfloat16, since they only move or convert.
_MOVING = frozenset({"Cast", "CastLike", "Gather", "Reshape", "Transpose", "Unsqueeze", "Slice", "TensorScatter"})


def executable(model: ir.Model) -> ir.Model:
    """Return a model that ONNX Runtime's CPU provider can execute: `model` itself where nothing in it is bfloat16.

    Initialisers stay as they are: external data is neither read nor moved.

    Args:
        model: a lowered graph of target `tensorrt` or `tensorrt-rtx`.
    """
    types = _types(model)
    if ir.DataType.BFLOAT16 not in types.values():
        return model
    widened = ir.from_proto(ir.to_proto(model))
    for node in list(widened.graph):
        if node.domain == "" and node.op_type not in _MOVING:
            _widen(widened.graph, node, types)
    return widened


def _types(model: ir.Model) -> Mapping[str, ir.DataType]:
    """Return the types of the graph's tensors by name."""
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True))
    values = [*inferred.graph.inputs, *inferred.graph.initializers.values()]
    values += [value for node in inferred.graph for value in node.outputs]
    return {str(value.name): value.dtype for value in values if value.dtype is not None}


def _widen(graph: ir.Graph, node: ir.Node, types: Mapping[str, ir.DataType]) -> None:
    def narrow(value: ir.Value | None) -> bool:
        return value is not None and types.get(str(value.name)) == ir.DataType.BFLOAT16

    for index, value in enumerate(node.inputs):
        if narrow(value):
            name = f"{node.name}.wide_input_{index}"
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=name, outputs=[ir.Value(name=name)])
            graph.insert_before(node, cast)
            node.replace_input_with(index, cast.outputs[0])
    if "output_dtype" in node.attributes and node.attributes["output_dtype"].as_int() == ir.DataType.BFLOAT16:
        node.attributes["output_dtype"] = ir.AttrInt64("output_dtype", ir.DataType.FLOAT)
    for output in node.outputs:
        if narrow(output):
            name = str(output.name)
            cast = ir.node("Cast", [output], {"to": ir.DataType.BFLOAT16}, name=f"{name}.rounded", outputs=[ir.Value()])
            output.replace_all_uses_with(cast.outputs[0])
            cast.replace_input_with(0, output)
            output.name, cast.outputs[0].name = f"{name}.unrounded", name
            graph.insert_after(node, cast)
