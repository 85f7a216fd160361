"""Target `onnx`: standard operators only (opset 24), in the padded interface of target `ort`.

Causality is an explicit mask made from `context_len`, so that any mix of sequences with and without a past is a
valid step, as long as context_len + S fits each cache. The cache is written by TensorScatter (in place where input
and output are bound to the same memory), and attention reads no further than the longest sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.padded import CACHE_TYPES, PaddedGraph, lower_padded
from qwen3_graphs.lower.core.positions import causal_mask, first_positions, longest_end, position_of_rows
from qwen3_graphs.lower.onnx.expert_loop import lower_moe
from qwen3_graphs.lower.onnx.formats import MATRICES
from qwen3_graphs.lower.onnx.gather_dequantized import gather_dequantized
from qwen3_graphs.lowered import TensorSlot

if TYPE_CHECKING:
    from qwen3_graphs.lowered import Limits, Lowered, Precision

OPSET = 24  # the first with TensorScatter


def lower(semantic: ir.Model, precision: Precision, limits: Limits) -> Lowered:
    """Lower to standard operators; see `qwen3_graphs.lower.lower`."""
    del limits  # nothing in these operators depends on the sizes
    weights.check_formats(precision, "onnx", ("fp32", "fp16"), MATRICES)
    handlers = {"Embedding": _lower_embedding, "Linear": _lower_linear, "Attention": _lower_attention, "MoE": lower_moe}
    return lower_padded(semantic, precision, handlers, {"": OPSET})


def _lower_embedding(step: PaddedGraph, node: ir.Node, ids: ir.Value) -> ir.Value:
    writer, fmt, name = step.writer, step.precision.embedding, str(node.outputs[0].name)
    vocab, hidden = weights.dims(node.inputs[1])
    sources = ((weights.source(node.inputs[1]),),)
    if fmt.is_float:
        return weights.gather(writer, weights.add_rows(writer, fmt, sources, sources[0][0], (vocab, hidden)), ids, name)
    table = weights.add_nbit_rows(writer, fmt, sources, sources[0][0], (vocab, hidden))
    return gather_dequantized(writer, fmt, table, ids, hidden, name)


def _lower_linear(step: PaddedGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    writer, name = step.writer, str(node.outputs[0].name)
    source = weights.source(node.inputs[1])
    fmt = weights.matrix_format(step.precision, source)
    outputs, inputs = weights.dims(node.inputs[1])
    if fmt.is_float:
        return weights.matmul(writer, fmt, source, (outputs, inputs), x, name)
    if fmt.bits == 4 and outputs % 2:
        raise LoweringError(f"target onnx: {fmt.kind} needs an even number of outputs, found {outputs} in {source}")
    # One scale a row is what DequantizeLinear calls per axis: that of the outputs, here the second.
    axis = 0 if fmt.group_size else 1
    scale_shape = (fmt.groups(inputs), outputs) if fmt.group_size else (outputs,)
    slots = [
        TensorSlot(f"{source}.columns", fmt.onnx_type, (inputs, outputs)),
        TensorSlot(f"{source}.column_scales", "FLOAT", scale_shape),
    ]
    if fmt.zero_point:
        slots.append(TensorSlot(f"{source}.column_zero_points", fmt.onnx_type, scale_shape))
    columns = writer.add_weight("integer_columns", fmt, ((source,),), slots)
    matrix = writer.op("DequantizeLinear", *columns, name=f"{name}.weight", axis=axis, block_size=fmt.group_size)
    return writer.op("MatMul", x, matrix, name=name)


def _lower_attention(step: PaddedGraph, node: ir.Node, q: ir.Value) -> ir.Value:
    writer, name = step.writer, str(node.outputs[0].name)
    heads, kv_heads, head_dim = (node.attributes[key].as_int() for key in ("num_heads", "kv_num_heads", "head_dim"))
    k, v = (step.values[value] for value in node.inputs[1:3] if value is not None)
    layer = weights.source(node.inputs[7])
    past = step.cache(layer)
    new = (
        _rotate(step, node, 4, _split_heads(step, k, kv_heads, head_dim, f"{name}.k"), f"{name}.k"),
        _split_heads(step, v, kv_heads, head_dim, f"{name}.v"),
    )
    present = [
        writer.op("TensorScatter", cache, _cast_to_cache(step, value), first_positions(step), name=out_name, axis=2)
        for cache, value, out_name in zip(past, new, step.cache_output_names(layer), strict=True)
    ]
    step.add_cache_outputs(*present)
    key, value = (
        _cast_from_cache(step, cache, f"{name}.{part}") for cache, part in zip(present, ("keys", "values"), strict=True)
    )
    query = _rotate(step, node, 3, _split_heads(step, q, heads, head_dim, f"{name}.q"), f"{name}.q")
    attended = writer.op("Attention", query, key, value, causal_mask(step), name=f"{name}.heads")
    swapped = writer.op("Transpose", attended, name=f"{name}.tokens", perm=[0, 2, 1, 3])
    return writer.op("Reshape", swapped, writer.integers(-1, heads * head_dim), name=name)


def _split_heads(step: PaddedGraph, x: ir.Value, heads: int, head_dim: int, name: str) -> ir.Value:
    """Return x [B*S, heads * head_dim] as [B, heads, S, head_dim]."""
    split = step.writer.op("Reshape", x, step.batched_shape(heads, head_dim), name=f"{name}.split")
    return step.writer.op("Transpose", split, name=f"{name}.heads", perm=[0, 2, 1, 3])


def _rotate(step: PaddedGraph, node: ir.Node, norm: int, x: ir.Value, name: str) -> ir.Value:
    """Return x [B, heads, S, head_dim] normalized by the node's input number `norm`, and rotated."""
    writer = step.writer
    scale, cos, sin = (weights.add_vector(writer, node.inputs[index]) for index in (norm, 5, 6))
    epsilon = node.attributes["epsilon"].as_float()
    normed = writer.op("RMSNormalization", x, scale, name=f"{name}.norm", axis=-1, epsilon=epsilon)
    return writer.op("RotaryEmbedding", normed, cos, sin, position_of_rows(step), name=f"{name}.rotated")


def _cast_to_cache(step: PaddedGraph, value: ir.Value) -> ir.Value:
    """Return keys or values in the type of the cache."""
    if step.precision.kv_cache == "fp32":
        return value
    return step.writer.op("Cast", value, name=f"{value.name}.stored", to=CACHE_TYPES[step.precision.kv_cache])


def _cast_from_cache(step: PaddedGraph, cache: ir.Value, name: str) -> ir.Value:
    """Return the part of a cache that any sequence of the step has filled, in float32."""
    writer = step.writer
    used = writer.op("Slice", cache, writer.integers(0), longest_end(step), writer.integers(2), name=f"{name}.used")
    if step.precision.kv_cache == "fp32":
        return used
    return writer.op("Cast", used, name=f"{name}.float32", to=ir.DataType.FLOAT)
