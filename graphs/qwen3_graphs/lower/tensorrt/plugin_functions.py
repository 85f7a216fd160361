"""The model-local functions of the plugins' nodes, for readers that have no plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from qwen3_graphs import schemas
from qwen3_graphs.lower.tensorrt import plugin_attention, plugin_experts

if TYPE_CHECKING:
    from onnxscript.values import OnnxFunction

_MATRICES = {"fp8": plugin_experts.expert_matrix_fp8, "int4": plugin_experts.expert_matrix_int4}


def attention_functions(opset: int) -> tuple[ir.Function, ...]:
    """Return what a model with `Qwen3Attention` nodes and standard operators of version `opset` needs."""
    return (_function(plugin_attention.Qwen3Attention, opset),)


def expert_functions(opset: int, weight_format: str) -> tuple[ir.Function, ...]:
    """Return what a model with `Qwen3MoE` nodes of one weight format needs."""
    matrix = _MATRICES.get(weight_format, plugin_experts.expert_matrix)
    return (
        _function(plugin_experts.Qwen3MoE, opset),
        _function(matrix, opset, name=plugin_experts.expert_matrix.name),
    )


def _function(script: OnnxFunction[..., Any], opset: int, name: str | None = None) -> ir.Function:
    proto = script.to_function_proto()
    proto.name = name or proto.name
    for imported in proto.opset_import:
        if not imported.domain:
            imported.version = opset  # none of the operators used differs between 23 and the model's version
    function = ir.serde.deserialize_function(proto)
    function.opset_imports[schemas.DOMAIN] = schemas.VERSION
    return function
