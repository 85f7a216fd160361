"""A mixture of experts as TensorRT builds it from standard operators: every expert answers every token.

TensorRT has no layer for experts on the targets that can be built without a GPU, and refuses patterns whose shapes
depend on values, such as `NonZero`. So all experts compute, and the answers of those that a token did not choose count
as zero. A step reads the weights of every expert and multiplies with all of them: the fast way is the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.tensorrt.functions import computed
from qwen3_graphs.lower.tensorrt.matrices import multiplied, narrowed, widened

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lower.core.step import Step


def experts(step: Step, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write `qwen3::MoE` of x [B*S, H]."""
    writer, name = step.writer, str(node.outputs[0].name)
    share = _shares(step, node, x, name)
    stacked = writer.op("Unsqueeze", x, writer.integers(0), name=f"{name}.token")

    def projected(rows: ir.Value, index: int, what: str) -> ir.Value:
        matrix = node.inputs[index]
        shape, stem = weights.dims(matrix), weights.source(matrix)
        sources = weights.expert_sources([matrix], shape[0])
        return multiplied(step, step.precision.weights, stem, sources, shape, rows, f"{name}.{what}")

    gate, up = projected(stacked, 2, "gate"), projected(stacked, 3, "up")
    silu = computed(step, "Mul", gate, computed(step, "Sigmoid", gate, name=f"{name}.sigmoid"), name=f"{name}.silu")
    answer = projected(computed(step, "Mul", silu, up, name=f"{name}.product"), 4, "answer")
    weighted = writer.op("Mul", widened(step, answer), share, name=f"{name}.weighted")
    # An expert may overflow on a token that is not its own: 0 times infinity would not be 0.
    zero = writer.constant("float32.0", np.array(0, np.float32))
    chosen = writer.op(
        "Where", writer.op("Greater", share, zero, name=f"{name}.hit"), weighted, zero, name=f"{name}.part"
    )
    total = writer.op("ReduceSum", chosen, writer.integers(0), name=f"{name}.total", keepdims=0)
    return narrowed(step, total, name)


def _shares(step: Step, node: ir.Node, x: ir.Value, name: str) -> ir.Value:
    """Return the share of each expert in the answer to each row, 0 where it was not chosen: float32 [E, B*S, 1]."""
    writer, (count, _) = step.writer, weights.dims(node.inputs[1])
    router = weights.vector(writer, node.inputs[1])
    logits = writer.op("Gemm", widened(step, x), router, name=f"{name}.router", transB=1)
    probability = writer.op("Softmax", logits, name=f"{name}.probability", axis=-1)
    top_k = writer.integers(node.attributes["top_k"].as_int())
    share, choice = writer.op_with_outputs(
        "TopK", probability, top_k, names=(f"{name}.top_probability", f"{name}.choice"), axis=-1
    )
    if node.attributes["normalize"].as_int():
        total = writer.op("ReduceSum", share, writer.integers(-1), name=f"{name}.top_total", keepdims=1)
        share = writer.op("Div", share, total, name=f"{name}.share")
    number = writer.constant(f"int64.below_{count}", np.arange(count)[:, None, None])
    hit = writer.op("Equal", choice, number, name=f"{name}.hits")
    zero = writer.constant("float32.0", np.array(0, np.float32))
    ranked = writer.op("Where", hit, share, zero, name=f"{name}.ranked")
    return writer.op("ReduceSum", ranked, writer.integers(-1), name=f"{name}.expert_share", keepdims=1)
