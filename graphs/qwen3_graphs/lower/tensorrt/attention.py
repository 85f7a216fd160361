"""Attention by TensorRT's own layers, over caches that are written in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.positions import position_of_rows
from qwen3_graphs.lower.tensorrt.functions import ATTENTION, CACHE_UPDATE, DOMAIN, PADDED
from qwen3_graphs.lower.tensorrt.matrices import cast_to_activations, cast_to_float32

if TYPE_CHECKING:
    from qwen3_graphs.lower.core.padded import PaddedGraph


def lower_attention(step: PaddedGraph, node: ir.Node, q: ir.Value) -> ir.Value:
    """Write `qwen3::Attention` of q [B*S, heads * head_dim]."""
    writer, name = step.writer, str(node.outputs[0].name)
    heads, kv_heads, head_dim = (node.attributes[key].as_int() for key in ("num_heads", "kv_num_heads", "head_dim"))
    k, v = (step.values[value] for value in node.inputs[1:3] if value is not None)
    layer = weights.source(node.inputs[7])
    past = step.cache(layer)
    key = cast_to_activations(
        step, _rotate(step, node, 4, _split_heads(step, k, kv_heads, head_dim, f"{name}.k")), f"{name}.key"
    )
    value = _split_heads(step, v, kv_heads, head_dim, f"{name}.v")
    present = [
        writer.op(
            CACHE_UPDATE,
            *(cache, new, step.context_len),
            name=out_name,
            domain=DOMAIN,
            update_form=PADDED,
            mode="linear",
            axis=-2,
        )
        for cache, new, out_name in zip(past, (key, value), step.cache_output_names(layer), strict=True)
    ]
    step.add_cache_outputs(*present)
    query = _rotate(step, node, 3, _split_heads(step, q, heads, head_dim, f"{name}.q"))
    # TensorRT's layer does not scale. It is done before queries are rounded.
    scale = writer.constant(f"float32.scale_{head_dim}", np.array(head_dim**-0.5, np.float32))
    scaled = cast_to_activations(step, writer.op("Mul", query, scale, name=f"{name}.scaled"), f"{name}.query")
    attended = writer.op(
        ATTENTION,
        *(scaled, *present, None, None, _lengths(step)),
        name=f"{name}.heads",
        domain=DOMAIN,
        causal_kind="lower_right",
        query_form=PADDED,
        kv_form=PADDED,
    )
    swapped = writer.op("Transpose", attended, name=f"{name}.tokens", perm=[0, 2, 1, 3])
    return writer.op("Reshape", swapped, writer.integers(-1, heads * head_dim), name=name)


def _split_heads(step: PaddedGraph, x: ir.Value, heads: int, head_dim: int, name: str) -> ir.Value:
    """Return x [B*S, heads * head_dim] as [B, heads, S, head_dim]."""
    split = step.writer.op("Reshape", x, step.batched_shape(heads, head_dim), name=f"{name}.split")
    return step.writer.op("Transpose", split, name=f"{name}.heads", perm=[0, 2, 1, 3])


def _rotate(step: PaddedGraph, node: ir.Node, norm: int, x: ir.Value) -> ir.Value:
    """Return x [B, heads, S, head_dim] normalized by the node's input number `norm`, and rotated, in float32."""
    writer = step.writer
    scale, cos, sin = (weights.add_vector(writer, node.inputs[index]) for index in (norm, 5, 6))
    epsilon = node.attributes["epsilon"].as_float()
    wide = cast_to_float32(step, x)
    normed = writer.op("RMSNormalization", wide, scale, name=f"{x.name}.norm", axis=-1, epsilon=epsilon)
    return writer.op("RotaryEmbedding", normed, cos, sin, position_of_rows(step), name=f"{x.name}.rotated")


def _lengths(step: PaddedGraph) -> ir.Value:
    """Return the keys that each sequence has after this step, padding included, int32 [B].

    Padding is counted in: then the lower right corner of the causal mask is the end of the step's rows, and the row
    of the token at index i attends to context_len + i + 1 keys.
    """

    def make() -> ir.Value:
        length = step.writer.op("Cast", step.length, name="step.length.int32", to=ir.DataType.INT32)
        return step.writer.op("Add", step.context_len, length, name="step.key_lengths")

    return step.once("key_lengths", make)
