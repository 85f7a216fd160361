"""What target `ort` has in common on CPU and CUDA: the operators' domain, accuracy, and quantized matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.formats import onnx_type
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.nibbles import unpack_zero_points
from qwen3_graphs.lowered import TensorSlot

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.formats import FloatKind, WeightFormat
    from qwen3_graphs.lower.core.writer import Attribute, GraphWriter
    from qwen3_graphs.lowered import Precision

CONTRIB = "com.microsoft"


def accuracy_level(precision: Precision) -> int:
    """Return 4 for int8 activations, in groups as long as the weights', or 1 for float32 ones."""
    return 4 if precision.quantized_activations else 1


def add_nbit_blocks(
    writer: GraphWriter, fmt: WeightFormat, source: str, shape: tuple[int, ...], scale_type: FloatKind = "fp32"
) -> tuple[ir.Value, ...]:
    """Declare a matrix [N, K] in integers, as MatMulNBits and `gather_blocks` read it.

    Returns:
        Codes uint8 [N, groups, bytes of a group], scales [N, groups] in their type, and zero points of the format,
        uint8 [N, ceil(groups * bits / 8)].
    """
    outputs, inputs = shape
    count, size = fmt.groups(inputs), fmt.group_size * fmt.bits // 8
    slots = [
        TensorSlot(f"{source}.codes", "UINT8", (outputs, count, size)),
        TensorSlot(f"{source}.scales", onnx_type(scale_type), (outputs, count)),
        *weights.zero_points(fmt, source, shape),
    ]
    layout = "nbit_blocks" if scale_type == "fp32" else f"nbit_blocks_{scale_type}"
    return writer.add_weight(layout, fmt, ((source,),), slots)


def matmul_nbits(
    writer: GraphWriter,
    fmt: WeightFormat,
    blocks: tuple[ir.Value, ...],
    shape: tuple[int, ...],
    x: ir.Value,
    name: str,
    **attributes: Attribute,
) -> ir.Value:
    """Write x [..., K] times the transpose of a matrix [N, K] of `add_nbit_blocks`; `attributes` are MatMulNBits'."""
    outputs, inputs = shape
    return writer.op(
        "MatMulNBits",
        x,
        *blocks,
        name=name,
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=fmt.bits,
        block_size=fmt.group_size,
        **attributes,
    )


def gather_blocks(
    writer: GraphWriter, fmt: WeightFormat, table: tuple[ir.Value, ...], ids: ir.Value, width: int, name: str
) -> ir.Value:
    """Gather rows of a quantized table and dequantize them.

    The table is that of a MatMulNBits, so that a tied head has the same bytes; only the scales' shape differs.

    Args:
        writer: receives the nodes.
        fmt: an integer format in groups.
        table: of `add_nbit_blocks`, [M, K].
        ids: integer [n], rows wanted.
        width: K, what remains of a row after its padding is cut off.
        name: of the result.

    Returns:
        [n, K] in the type of the scales.
    """
    codes, scales, *packed = table
    column = writer.op("Unsqueeze", scales, writer.integers(2), name=f"{scales.name}.column")
    # Constants: ONNX Runtime takes the zero points apart once, when a session opens.
    zero_points = [unpack_zero_points(writer, pairs, fmt.groups(width), str(pairs.name)) for pairs in packed]
    blocks = writer.op(
        "GatherBlockQuantized",
        codes,
        ids,
        column,
        *zero_points,
        name=f"{name}.blocks",
        domain=CONTRIB,
        bits=fmt.bits,
        block_size=fmt.group_size,
        gather_axis=0,
        quantize_axis=2,
    )
    padded = fmt.padded_inputs(width)
    flat = writer.op("Reshape", blocks, writer.integers(-1, padded), name=f"{name}.rows")
    if padded == width:
        return flat
    return writer.op("Slice", flat, writer.integers(0), writer.integers(width), writer.integers(1), name=name)
