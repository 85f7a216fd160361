"""Attention by ONNX Runtime's GroupQueryAttention on CPU.

Which padded steps are valid is its business (measured with 1.31): sequences without a past, ragged, in one call;
or one new token of each sequence; or, with a past and several new tokens, one sequence alone. Padding counts as
tokens here: it attends and is written to the cache behind the real ones, where the causal mask hides it until the
next step overwrites it.

With an fp16 cache queries, keys and values enter in fp16 (products are summed in float32), after a rotation in
float32: the operator also takes float32 queries on an fp16 cache, but then converts the cache's whole capacity in
every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.positions import position_of_rows
from qwen3_graphs.lower.ort.operators import CONTRIB

if TYPE_CHECKING:
    from qwen3_graphs.lower.core.padded import PaddedGraph


def lower_attention(step: PaddedGraph, node: ir.Node, q: ir.Value) -> ir.Value:
    """Write `qwen3::Attention` of q [B*S, heads * head_dim]."""
    writer, name = step.writer, str(node.outputs[0].name)
    heads, kv_heads, head_dim = (node.attributes[key].as_int() for key in ("num_heads", "kv_num_heads", "head_dim"))
    k, v = (step.values[value] for value in node.inputs[1:3] if value is not None)
    layer = weights.source(node.inputs[7])
    past = step.cache(layer)
    query = _normalize_heads(step, node, 3, q, (heads, head_dim), f"{name}.q")
    key = _normalize_heads(step, node, 4, k, (kv_heads, head_dim), f"{name}.k")
    value = writer.op("Reshape", v, step.batched_shape(kv_heads * head_dim), name=f"{name}.v")
    tables = [weights.add_vector(writer, node.inputs[index]) for index in (5, 6)]
    narrow = step.precision.kv_cache == "fp16"
    if narrow:
        query = _rotate(step, query, heads, tables)
        query, key, value = (
            _cast_to_float16(step, part) for part in (query, _rotate(step, key, kv_heads, tables), value)
        )
    attended, *present = writer.op_with_outputs(
        "GroupQueryAttention",
        *(query, key, value, *past, *lengths(step), *([] if narrow else tables)),
        names=(f"{name}.batched", *step.cache_output_names(layer)),
        domain=CONTRIB,
        num_heads=heads,
        kv_num_heads=kv_heads,
        do_rotary=int(not narrow),
    )
    step.add_cache_outputs(*present)
    if narrow:
        attended = writer.op("Cast", attended, name=f"{name}.float32", to=ir.DataType.FLOAT)
    return writer.op("Reshape", attended, writer.integers(-1, heads * head_dim), name=name)


def _normalize_heads(
    step: PaddedGraph, node: ir.Node, norm: int, x: ir.Value, heads: tuple[int, int], name: str
) -> ir.Value:
    """Return x [B*S, heads * head_dim] as [B, S, heads * head_dim], each head under the node's input `norm`."""
    writer, epsilon = step.writer, node.attributes["epsilon"].as_float()
    split = writer.op("Reshape", x, writer.integers(-1, *heads), name=f"{name}.heads")
    scale = weights.add_vector(writer, node.inputs[norm])
    normed = writer.op("RMSNormalization", split, scale, name=f"{name}.norm", axis=-1, epsilon=epsilon)
    return writer.op("Reshape", normed, step.batched_shape(heads[0] * heads[1]), name=name)


def _rotate(step: PaddedGraph, x: ir.Value, heads: int, tables: list[ir.Value]) -> ir.Value:
    positions = position_of_rows(step)
    return step.writer.op("RotaryEmbedding", x, *tables, positions, name=f"{x.name}.rotated", num_heads=heads)


def _cast_to_float16(step: PaddedGraph, x: ir.Value) -> ir.Value:
    return step.writer.op("Cast", x, name=f"{x.name}.float16", to=ir.DataType.FLOAT16)


def lengths(step: PaddedGraph) -> tuple[ir.Value, ir.Value]:
    """Return GroupQueryAttention's `seqlens_k` int32 [B] and `total_sequence_length` int32 scalar.

    Padding is counted in. The operator places new tokens at seqlens_k + 1 - S, which is the end of the past only
    if all S of them count; and every row is then finite, where uncounted rows would be uninitialized memory.
    """
    writer = step.writer

    def make_last() -> ir.Value:
        length = writer.op("Cast", step.length, name="step.length.int32", to=ir.DataType.INT32)
        before = writer.op(
            "Sub", length, writer.constant("int32.1", np.array([1], np.int32)), name="step.length_less_1"
        )
        return writer.op("Add", step.context_len, before, name="step.last_key")

    def make_total() -> ir.Value:
        most = writer.op("ReduceMax", last, name="step.most", keepdims=0)
        return writer.op("Add", most, writer.constant("int32.scalar.1", np.array(1, np.int32)), name="step.total")

    last = step.once("last", make_last)
    return last, step.once("total", make_total)
