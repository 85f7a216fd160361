"""Targets `tensorrt` and `tensorrt-rtx`: a graph that TensorRT imports layer by layer and ONNX Runtime executes.

The network is strongly typed: a tensor has the type that the file says. Hidden states, matrices and caches have the
type of the activations, fp16 or bf16. Norms (those of queries and keys too), rotations and a router's shares are
computed in float32, each rounded once. What standard operators cannot say, or TensorRT reads differently
(`functions`), are nodes of domain `trt`, with a model-local function of the same name that says what they
compute.

The padded interface of target `onnx`, but `input_ids` is [B, S] and a cache is max_context tokens long. Padding is
written to the cache and attends: context_len + S may not be above max_context. `query_len` gives B and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.padded import lower_padded
from qwen3_graphs.lower.tensorrt.attention import lower_attention
from qwen3_graphs.lower.tensorrt.experts import lower_moe
from qwen3_graphs.lower.tensorrt.formats import EMBEDDINGS, MATRICES
from qwen3_graphs.lower.tensorrt.functions import DOMAIN, compute, functions
from qwen3_graphs.lower.tensorrt.matrices import cast_to_activations, cast_to_float32, matmul

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lower.core.step import Handlers, StepGraph
    from qwen3_graphs.lowered import Limits, Lowered, Plugins, Precision

OPSET = 24  # the first with TensorScatter


def lower(semantic: ir.Model, precision: Precision, limits: Limits) -> Lowered:
    """Lower for TensorRT; see `qwen3_graphs.lower.lower`."""
    check_precision(precision)
    return lower_padded(
        semantic,
        precision,
        {**row_handlers(), "Attention": lower_attention, "MoE": lower_moe},
        {"": OPSET, DOMAIN: 1},
        capacity=limits.max_context,
        functions=functions(),
    )


def lower_with_plugins(semantic: ir.Model, precision: Precision, limits: Limits, plugins: Plugins) -> Lowered:
    """Lower for TensorRT with some of our plugins, at least one; see `qwen3_graphs.lower.lower`."""
    from qwen3_graphs.lower.tensorrt import plugin  # its functions are traced by onnxscript, which takes a while

    return plugin.lower(semantic, precision, limits, plugins)


def row_handlers() -> Handlers[StepGraph]:
    """Return what writes the operators that work on rows, whatever the interface; see `walk`."""
    return {
        "Embedding": lower_embedding,
        "RMSNormalization": lower_rms_norm,
        "Linear": lower_linear,
        **dict.fromkeys(("Add", "Mul", "Sigmoid"), lower_elementwise),
    }


def check_precision(precision: Precision) -> None:
    """Refuse formats that TensorRT has no layer for.

    Raises:
        LoweringError: naming the field, what was asked for and what the target takes.
    """
    if WeightFormat(precision.activations) not in EMBEDDINGS:
        expected = " or ".join(fmt.kind for fmt in EMBEDDINGS)
        raise LoweringError(f"target tensorrt: activations are {expected}, found {precision.activations}")
    for field, kind in (("kv_cache", precision.kv_cache), ("embedding", precision.embedding.kind)):
        if kind != precision.activations:
            raise LoweringError(
                f"target tensorrt: {field} has the type of the activations, {precision.activations}, found {kind}"
            )
    for field in ("weights", "lm_head"):
        weights.check_format(
            getattr(precision, field), "tensorrt", field, weights.one_float(MATRICES, precision.activations)
        )


def lower_embedding(step: StepGraph, node: ir.Node, ids: ir.Value) -> ir.Value:
    """Write `qwen3::Embedding` of ids [B*S]."""
    source = weights.source(node.inputs[1])
    table = weights.add_rows(step.writer, step.precision.embedding, ((source,),), source, weights.dims(node.inputs[1]))
    return step.writer.op("Gather", table, ids, name=str(node.outputs[0].name), axis=0)


def lower_rms_norm(step: StepGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write `RMSNormalization` of x [..., H], in float32."""
    name, scale = str(node.outputs[0].name), weights.add_vector(step.writer, node.inputs[1])
    wide = step.writer.op(
        "RMSNormalization",
        cast_to_float32(step, x),
        scale,
        name=f"{name}.float32",
        axis=-1,
        epsilon=node.attributes["epsilon"].as_float(),
    )
    return cast_to_activations(step, wide, name)


def lower_elementwise(step: StepGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write an operator whose inputs are all hidden states."""
    others = [step.values[value] for value in node.inputs[1:] if value is not None]
    return compute(step, node.op_type, x, *others, name=str(node.outputs[0].name))


def lower_linear(step: StepGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write `qwen3::Linear` of x [..., K]."""
    source, shape = weights.source(node.inputs[1]), weights.dims(node.inputs[1])
    fmt = weights.matrix_format(step.precision, source)
    return matmul(step, fmt, source, ((source,),), shape, x, str(node.outputs[0].name))
