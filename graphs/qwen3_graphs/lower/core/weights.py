"""The weights of a lowering: which packer makes which initializers, and in what shape.

Layouts (see `qwen3_compile.pack.layouts`), for a matrix [N, K] in groups of g inputs, padded to whole groups:

| layout | initializers |
|---|---|
| `rows` | the matrix (or vector) as it is, in a floating-point type |
| `interleaved_rows` | two matrices in turns, a row of the one and a row of the other: [2N, K] |
| `nbit_rows` | codes, offset so that they are not negative, uint8, low half of a byte first; scales float32 |
| `nbit_blocks` | the same bytes; codes are [N, groups, bytes of a group] |
| `interleaved_nbit_rows` | as `nbit_rows`, of two matrices in turns |
| these three with `_fp16`, `_bf16` | the same with scales in that type |
| these six for a format with zero points | and zero points uint8 [N, ceil(groups * bits / 8)], packed like codes |
| `float8_rows` | E4M3 values [N, K], scales float32 [N, ceil(K/128)], or [N, 1] with one scale per row |
| `integer_columns` | codes of the format [K, N], scales float32 and zero points [ceil(K/g), N], or [N] per channel |
| `rope_cos`, `rope_sin` | computed from the architecture, without sources |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lowered import TensorSlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_graphs.formats import FloatKind
    from qwen3_graphs.lower.core.writer import GraphWriter, Sources
    from qwen3_graphs.lowered import Precision

FLOAT32 = WeightFormat("fp32")

_ROPE_LAYOUTS = {"rope.cos": "rope_cos", "rope.sin": "rope_sin"}


def dims(value: ir.Value | None) -> tuple[int, ...]:
    """Return the static shape of a checkpoint tensor."""
    if value is None or value.shape is None or not value.shape.is_static():
        raise LoweringError(f"expected a weight of static shape in the semantic graph, found {value}")
    return tuple(int(size) for size in value.shape.numpy())


def source(value: ir.Value | None) -> str:
    """Return the canonical name of a checkpoint tensor."""
    if value is None or value.name is None:
        raise LoweringError(f"expected a named weight in the semantic graph, found {value}")
    return value.name


def expert_sources(stacked: Sequence[ir.Value | None], experts: int) -> Sources:
    """Return the tensors of every expert: the semantic name holds no number, the checkpoint's does."""
    return tuple(
        tuple(source(value).replace(".experts.", f".experts.{expert}.") for value in stacked)
        for expert in range(experts)
    )


def matrix_format(precision: Precision, name: str) -> WeightFormat:
    """Return the format of the matrix of a Linear; the head's is that of `lm_head`, tied or not."""
    return precision.lm_head if name in ("lm_head.weight", "model.embed_tokens.weight") else precision.weights


def add_vector(writer: GraphWriter, value: ir.Value | None, kind: FloatKind = "fp32") -> ir.Value:
    """Return a norm weight or router matrix in a floating-point type, or a position table, which is float32."""
    name = source(value)
    if name in _ROPE_LAYOUTS:
        return writer.add_weight(_ROPE_LAYOUTS[name], FLOAT32, (), [TensorSlot(name, "FLOAT", dims(value))])[0]
    return add_rows(writer, WeightFormat(kind), ((name,),), name, dims(value))


def add_rows(writer: GraphWriter, fmt: WeightFormat, sources: Sources, name: str, shape: tuple[int, ...]) -> ir.Value:
    """Return a floating-point matrix (or a stack of them) in its own type."""
    slot = TensorSlot(name, fmt.onnx_type, shape)
    return writer.add_weight("rows", fmt, sources, [slot])[0]


def add_nbit_rows(
    writer: GraphWriter, fmt: WeightFormat, sources: Sources, name: str, shape: tuple[int, ...]
) -> tuple[ir.Value, ...]:
    """Return a matrix or a stack as integers: codes uint8 [..., K_padded * bits / 8], scales float32 [..., groups].

    A format with zero points adds those; see `zero_points`.
    """
    *leading, inputs = shape
    count = fmt.groups(inputs)
    slots = [
        TensorSlot(f"{name}.codes", "UINT8", (*leading, fmt.padded_inputs(inputs) * fmt.bits // 8)),
        TensorSlot(f"{name}.scales", "FLOAT", (*leading, count)),
        *zero_points(fmt, name, shape),
    ]
    return writer.add_weight("nbit_rows", fmt, sources, slots)


def zero_points(fmt: WeightFormat, name: str, shape: Sequence[int]) -> list[TensorSlot]:
    """Return the slot of the zero points of a matrix [..., K], uint8 [..., ceil(groups * bits / 8)]; else nothing."""
    if not fmt.zero_point:
        return []
    *leading, inputs = shape
    return [TensorSlot(f"{name}.zero_points", "UINT8", (*leading, -(-fmt.groups(inputs) * fmt.bits // 8)))]


def gather(writer: GraphWriter, table: ir.Value, index: ir.Value, name: str) -> ir.Value:
    """Return entries of a floating-point table in float32, widening only what was gathered."""
    if table.dtype == ir.DataType.FLOAT:
        return writer.op("Gather", table, index, name=name, axis=0)
    narrow = writer.op("Gather", table, index, name=f"{name}.stored", axis=0)
    return writer.op("Cast", narrow, name=name, to=ir.DataType.FLOAT)


def cast_to_float32(writer: GraphWriter, value: ir.Value) -> ir.Value:
    """Return `value` in float32. A session folds the cast of a weight when it opens, unless folding is disabled."""
    if value.dtype == ir.DataType.FLOAT:
        return value
    return writer.op("Cast", value, name=f"{value.name}.float32", to=ir.DataType.FLOAT)


def matmul(
    writer: GraphWriter, fmt: WeightFormat, name: str, shape: tuple[int, ...], x: ir.Value, result: str
) -> ir.Value:
    """Return x [T, K] times the transpose of the floating-point matrix `name` of shape [N, K], in float32."""
    matrix = cast_to_float32(writer, add_rows(writer, fmt, ((name,),), name, shape))
    return writer.op("Gemm", x, matrix, name=result, transB=1)


def check_formats(
    precision: Precision, target: str, cache_kinds: Sequence[str], computed: Sequence[WeightFormat]
) -> None:
    """Refuse formats that a target with float32 activations does not compute.

    Args:
        precision: what is asked for.
        target: for the message.
        cache_kinds: types of keys and values that the target stores.
        computed: the formats of matrices that the target computes.

    Raises:
        LoweringError: naming the field, what was asked for and what the target takes.
    """
    if precision.activations != "fp32":
        raise LoweringError(f"target {target}: activations are fp32, found {precision.activations}")
    if precision.kv_cache not in cache_kinds:
        raise LoweringError(f"target {target}: kv_cache is {' or '.join(cache_kinds)}, found {precision.kv_cache}")
    if precision.pre_scaled:
        raise LoweringError(f"target {target}: no matrix can have a pre_quant_scale, found {precision.pre_scaled[0]}")
    for field in ("weights", "lm_head", "embedding"):
        check_format(getattr(precision, field), target, field, computed)


def check_format(fmt: WeightFormat, target: str, field: str, computed: Sequence[WeightFormat]) -> None:
    """Refuse a format that is not among `computed`.

    Raises:
        LoweringError: naming the field, what was asked for and what the target takes.
    """
    if fmt in computed:
        return
    kinds = tuple(dict.fromkeys(each.kind for each in computed))
    if fmt.kind not in kinds:
        raise LoweringError(f"target {target}: {field} is one of {', '.join(kinds)}, found {fmt.kind}")
    of_kind = ", ".join(each.description for each in computed if each.kind == fmt.kind)
    raise LoweringError(f"target {target}: {field} is one of {of_kind}, found {fmt.description}")


def one_float(computed: Sequence[WeightFormat], activations: str) -> tuple[WeightFormat, ...]:
    """Return the formats of an engine whose floating-point matrices have the type of the activations."""
    return tuple(fmt for fmt in computed if not fmt.is_float or fmt.kind == activations)
