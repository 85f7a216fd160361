"""What the nodes of domain `trt` compute, as model-local functions in standard operators.

TensorRT's parser knows the names and imports layers of its own (`IAttention`, `IKVCacheUpdateLayer`); every other
reader runs these bodies. The standard `Attention` would not do: the parser drops its lengths and aligns its causal
mask with the wrong corner.
"""

from __future__ import annotations

import onnx_ir as ir

from qwen3_graphs.lower.writer import GraphWriter

DOMAIN = "trt"
ATTENTION, CACHE_UPDATE = "TRT_Attention", "TRT_KVCacheUpdate"
PADDED = "padded_bhnd"  # the parser's word for [batch, heads, tokens, head_dim]

_OPSET = 24


def functions() -> tuple[ir.Function, ...]:
    """Return the functions that a lowered graph holds."""
    return _attention(), _cache_update()


def _cache_update() -> ir.Function:
    """Write update [B, heads, S, D] into past_cache [B, heads, C, D] from row write_indices [B] on."""
    past, update, indices = (ir.Value(name=name) for name in ("past_cache", "update", "write_indices"))
    writer = GraphWriter()
    rows = writer.op("Cast", indices, name="rows", to=ir.DataType.INT64)
    cache = writer.op("TensorScatter", past, update, rows, name="cache", axis=-2, mode="linear")
    return _function(CACHE_UPDATE, [past, update, indices], cache, writer, ("update_form", "mode", "axis"))


def _attention() -> ir.Function:
    """Attend from q [B, Nq, S, D], scaled, to the first kv_lengths [B] keys and values of [B, Nkv, C, D].

    The last of the S queries sees all of its sequence's keys, and each one before it one fewer (`lower_right`). The
    arithmetic is float32, as a fused kernel's sums are.
    """
    names = ("q", "k", "v", "attn_mask", "query_lengths", "kv_lengths")
    inputs = [ir.Value(name=name) for name in names]
    query, key, value, _, _, lengths = inputs
    writer = GraphWriter()

    def integers(*values: int) -> ir.Value:
        return writer.op("Constant", name="integers." + "_".join(map(str, values)), value_ints=list(values))

    def counted(limit: ir.Value, name: str) -> ir.Value:
        scalar = writer.op("Squeeze", limit, name=f"{name}.limit")
        return writer.op("Range", zero, scalar, one, name=name)

    zero, one = (writer.op("Constant", name=f"integer.{number}", value_int=number) for number in (0, 1))
    start, tokens, spread = integers(0), integers(2), integers(1, 3)
    ends = writer.op("Cast", lengths, name="ends", to=ir.DataType.INT64)
    longest = writer.op("ReduceMax", ends, name="longest", keepdims=1)
    used = [writer.op("Slice", part, start, longest, tokens, name=f"{part.name}.used") for part in (key, value)]
    wide = [writer.op("Cast", part, name=f"{part.name}.wide", to=ir.DataType.FLOAT) for part in (query, *used)]
    count = writer.op("Shape", query, name="count", start=2, end=3)
    first = writer.op("Unsqueeze", writer.op("Sub", ends, count, name="past"), integers(1), name="first")
    position = writer.op("Add", first, counted(count, "offsets"), name="position")
    row = writer.op("Unsqueeze", position, spread, name="row")
    mask = writer.op("LessOrEqual", counted(longest, "columns"), row, name="mask")
    attended = writer.op("Attention", *wide, mask, name="attended", scale=1.0)
    result = writer.op("CastLike", attended, query, name="y")
    return _function(ATTENTION, inputs, result, writer, ("causal_kind", "query_form", "kv_form"))


def _function(
    name: str, inputs: list[ir.Value], output: ir.Value, writer: GraphWriter, attributes: tuple[str, ...]
) -> ir.Function:
    graph = ir.Graph(inputs, [output], nodes=writer.nodes, opset_imports={"": _OPSET}, name=name)
    declared = [ir.Attr(key, ir.AttributeType.UNDEFINED, None) for key in attributes]
    return ir.Function(DOMAIN, name, graph=graph, attributes=declared)
