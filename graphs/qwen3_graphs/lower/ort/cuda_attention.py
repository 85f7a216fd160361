"""Attention by ONNX Runtime's GroupQueryAttention on CUDA, with the norm of queries and keys and the rotation inside.

Which padded steps are valid is as on CPU (`cpu_attention`): the operator's own checks of its inputs are shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.padded import CACHE_TYPES
from qwen3_graphs.lower.ort.cpu_attention import lengths
from qwen3_graphs.lower.ort.operators import CONTRIB

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lower.core.padded import PaddedGraph

_POSITION_TABLES, _NORMS = (5, 6), (3, 4)  # inputs of `qwen3::Attention`


def lower_attention(step: PaddedGraph, node: ir.Node, q: ir.Value) -> ir.Value:
    """Write `qwen3::Attention` of q [B*S, heads * head_dim]."""
    writer, name = step.writer, str(node.outputs[0].name)
    heads, kv_heads, head_dim = (node.attributes[key].as_int() for key in ("num_heads", "kv_num_heads", "head_dim"))
    k, v = (step.values[value] for value in node.inputs[1:3] if value is not None)
    layer = weights.source(node.inputs[7])
    past = step.cache(layer)
    query, key, value = (
        writer.op("Reshape", rows, step.batched_shape(count * head_dim), name=f"{name}.{part}")
        for rows, count, part in ((q, heads, "q"), (k, kv_heads, "k"), (v, kv_heads, "v"))
    )
    tables = [_cast_position_table(step, node.inputs[index]) for index in _POSITION_TABLES]
    norms = [weights.add_vector(writer, node.inputs[index], step.precision.activations) for index in _NORMS]
    unused = [None] * 5  # positions, bias, sink, scales of a quantized cache
    attended, *present = writer.op_with_outputs(
        "GroupQueryAttention",
        *(query, key, value, *past, *lengths(step), *tables, *unused, *norms),
        names=(f"{name}.batched", *step.cache_output_names(layer)),
        domain=CONTRIB,
        num_heads=heads,
        kv_num_heads=kv_heads,
        do_rotary=1,
        qk_norm_epsilon=node.attributes["epsilon"].as_float(),
    )
    step.add_cache_outputs(*present)
    return writer.op("Reshape", attended, writer.integers(-1, heads * head_dim), name=name)


def _cast_position_table(step: PaddedGraph, value: ir.Value | None) -> ir.Value:
    """Return a table of cosines or sines in the activations' type; it is converted when a session opens."""
    table = weights.add_vector(step.writer, value)
    kind = step.precision.activations
    name = f"{table.name}.{kind}"
    return step.once(name, lambda: step.writer.op("Cast", table, name=name, to=CACHE_TYPES[kind]))
