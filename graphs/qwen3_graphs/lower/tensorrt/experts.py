"""A mixture of experts as TensorRT builds it from standard operators: every expert computes every token.

TensorRT has no layer for experts on the targets that can be built without a GPU, and refuses patterns whose shapes
depend on values, such as `NonZero`. So all experts compute, and the answers of those that a token did not choose count
as zero. A step reads the weights of every expert and multiplies with all of them: the fast way is the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.tensorrt.functions import compute
from qwen3_graphs.lower.tensorrt.matrices import cast_to_activations, cast_to_float32, matmul

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lower.core.step import StepGraph


def lower_moe(step: StepGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write `qwen3::MoE` of x [B*S, H]."""
    writer, name = step.writer, str(node.outputs[0].name)
    routing_weight = _routing_weights(step, node, x, name)
    stacked = writer.op("Unsqueeze", x, writer.integers(0), name=f"{name}.token")

    def project(rows: ir.Value, index: int, what: str) -> ir.Value:
        matrix = node.inputs[index]
        shape, stem = weights.dims(matrix), weights.source(matrix)
        sources = weights.expert_sources([matrix], shape[0])
        return matmul(step, step.precision.weights, stem, sources, shape, rows, f"{name}.{what}")

    gate, up = project(stacked, 2, "gate"), project(stacked, 3, "up")
    silu = compute(step, "Mul", gate, compute(step, "Sigmoid", gate, name=f"{name}.sigmoid"), name=f"{name}.silu")
    expert_output = project(compute(step, "Mul", silu, up, name=f"{name}.product"), 4, "answer")
    weighted = writer.op("Mul", cast_to_float32(step, expert_output), routing_weight, name=f"{name}.weighted")
    # An expert may overflow on a token that is not its own: 0 times infinity would not be 0.
    zero = writer.constant("float32.0", np.array(0, np.float32))
    chosen = writer.op(
        "Where", writer.op("Greater", routing_weight, zero, name=f"{name}.hit"), weighted, zero, name=f"{name}.part"
    )
    total = writer.op("ReduceSum", chosen, writer.integers(0), name=f"{name}.total", keepdims=0)
    return cast_to_activations(step, total, name)


def _routing_weights(step: StepGraph, node: ir.Node, x: ir.Value, name: str) -> ir.Value:
    """Return each expert's routing weight for each row, 0 where it was not chosen: float32 [E, B*S, 1]."""
    writer, (count, _) = step.writer, weights.dims(node.inputs[1])
    router = weights.add_vector(writer, node.inputs[1])
    logits = writer.op("Gemm", cast_to_float32(step, x), router, name=f"{name}.router", transB=1)
    probability = writer.op("Softmax", logits, name=f"{name}.probability", axis=-1)
    top_k = writer.integers(node.attributes["top_k"].as_int())
    routing_weight, expert_id = writer.op_with_outputs(
        "TopK", probability, top_k, names=(f"{name}.top_probability", f"{name}.choice"), axis=-1
    )
    if node.attributes["normalize"].as_int():
        total = writer.op("ReduceSum", routing_weight, writer.integers(-1), name=f"{name}.top_total", keepdims=1)
        routing_weight = writer.op("Div", routing_weight, total, name=f"{name}.share")
    number = writer.constant(f"int64.below_{count}", np.arange(count)[:, None, None])
    hit = writer.op("Equal", expert_id, number, name=f"{name}.hits")
    zero = writer.constant("float32.0", np.array(0, np.float32))
    ranked = writer.op("Where", hit, routing_weight, zero, name=f"{name}.ranked")
    return writer.op("ReduceSum", ranked, writer.integers(-1), name=f"{name}.expert_share", keepdims=1)
