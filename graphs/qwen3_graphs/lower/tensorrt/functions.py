"""What the nodes of domain `trt` compute, as model-local functions in standard operators.

TensorRT's parser knows the names and imports layers of its own (`IAttention`, `IKVCacheUpdateLayer`); every other
reader runs these bodies. The standard `Attention` would not do: the parser drops its lengths and aligns its causal
mask with the wrong corner.

Arithmetic on hidden states is a node of this domain too, and so are conversions to and from eight and four bits.
TensorRT knows `MatMul` by that name in any domain; others compute in float32 and round the result, which is the same
arithmetic. Written in standard operators, ONNX Runtime 1.31 on CPU would refuse bfloat16, leave out roundings to fp16
(and with them what overflows there), and fuse conversions with their users, with other results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs.lower.core.writer import GraphWriter

if TYPE_CHECKING:
    from qwen3_graphs.lower.core.step import StepGraph
    from qwen3_graphs.lower.core.writer import Attribute

DOMAIN = "trt"
ATTENTION, CACHE_UPDATE = "TRT_Attention", "TRT_KVCacheUpdate"
PADDED = "padded_bhnd"  # the parser's word for [batch, heads, tokens, head_dim]

_OPSET = 24
_INPUTS = {"Add": 2, "Gemm": 2, "MatMul": 2, "Mul": 2, "Sigmoid": 1}


def functions() -> tuple[ir.Function, ...]:
    """Return the functions that a lowered graph may call."""
    arithmetic = (_arithmetic(op_type, count) for op_type, count in _INPUTS.items())
    return (_attention(), _cache_update(), _quantize(), _dequantize(), *arithmetic)


def compute(
    step: StepGraph, op_type: str, *inputs: ir.Value, name: str, attributes: dict[str, Attribute] | None = None
) -> ir.Value:
    """Write an operator on hidden states; `Gemm` is x @ weight.T.

    Args:
        step: receives the node.
        op_type: one of those that `functions` gives.
        inputs: in the type of the activations, or codes and their scales.
        name: of the result.
        attributes: of the standard operator; `Gemm` has its own.
    """
    given: dict[str, Attribute] = {"transB": 1} if op_type == "Gemm" else attributes or {}
    return step.writer.op(op_type, *inputs, name=name, domain=DOMAIN, **given)


def _arithmetic(op_type: str, count: int) -> ir.Function:
    """Compute in float32 and round to the first input's type."""
    writer, inputs = GraphWriter(), [ir.Value(name=name) for name in "ab"[:count]]
    wide = [writer.op("Cast", value, name=f"{value.name}.wide", to=ir.DataType.FLOAT) for value in inputs]
    attributes: dict[str, Attribute] = {"transB": 1} if op_type == "Gemm" else {}
    result = writer.op(op_type, *wide, name="result", domain="", **attributes)
    rounded = writer.op("CastLike", result, inputs[0], name="y")
    return _function(op_type, inputs, rounded, writer, tuple(attributes))


def _quantize() -> ir.Function:
    x, scale = (ir.Value(name=name) for name in ("x", "scale"))
    writer = GraphWriter()
    wide = writer.op("Cast", x, name="wide", to=ir.DataType.FLOAT)
    codes = _pass_attributes(writer.op("QuantizeLinear", wide, scale, name="y"), output_dtype="output_dtype")
    return _function("QuantizeLinear", [x, scale], codes, writer, ("output_dtype",))


def _dequantize() -> ir.Function:
    codes, scale = (ir.Value(name=name) for name in ("x", "scale"))
    writer = GraphWriter()
    wide = writer.op("Cast", scale, name="wide", to=ir.DataType.FLOAT)
    places = ("axis", "block_size")
    values = _pass_attributes(
        writer.op("DequantizeLinear", codes, wide, name="values"), **{name: name for name in places}
    )
    rounded = _pass_attributes(writer.op("Cast", values, name="y"), to="output_dtype")
    return _function("DequantizeLinear", [codes, scale], rounded, writer, (*places, "output_dtype"))


def _pass_attributes(value: ir.Value, **attributes: str) -> ir.Value:
    """Give a value's node integer attributes of the function, by its own name and the function's."""
    node = value.producer()
    assert node is not None  # noqa: S101 - a value that was just written
    for name, outer in attributes.items():
        node.attributes.add(ir.RefAttr(name, outer, ir.AttributeType.INT))
    return value


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
