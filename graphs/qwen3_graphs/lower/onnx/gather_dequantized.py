"""Rows of a quantized table as float32, by standard operators that read only the rows wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qwen3_graphs.lower.core.nibbles import unpack_nibbles, unpack_zero_points

if TYPE_CHECKING:
    from qwen3_graphs.formats import WeightFormat
    from qwen3_graphs.lower.core.writer import GraphWriter


def gather_dequantized(
    writer: GraphWriter,
    fmt: WeightFormat,
    table: tuple[ir.Value, ...],
    index: ir.Value,
    width: int,
    name: str,
) -> ir.Value:
    """Gather entries of a table in layout `nbit_rows` and dequantize them.

    A four-bit type cannot be gathered by the standard operator, so the codes stay packed in bytes until then.

    Args:
        writer: receives the nodes.
        fmt: an integer format.
        table: codes uint8 [M, ..., K_padded * bits / 8], scales float32 [M, ..., groups], and zero points of the format
            uint8 [M, ..., ceil(groups * bits / 8)].
        index: integer scalar or [n], entries of the first axis.
        width: K, what remains of a row after its padding is cut off.
        name: of the result.

    Returns:
        float32 [rows, width]; leading axes are flattened into one.
    """
    size, count = fmt.group_size or width, fmt.groups(width)
    codes, scales, *packed = (
        writer.op("Gather", part, index, name=f"{name}.{what}", axis=0)
        for part, what in zip(table, ("codes", "scales", "zero_points"), strict=False)
    )
    if fmt.bits == 4:
        codes = unpack_nibbles(writer, codes, name)
    grouped = writer.op("Reshape", codes, writer.integers(-1, count, size), name=f"{name}.grouped")
    floats = writer.op("Cast", grouped, name=f"{name}.float32", to=ir.DataType.FLOAT)
    if packed:
        column = unpack_zero_points(writer, packed[0], count, f"{name}.zero_points")
        zero = writer.op("Cast", column, name=f"{name}.zero_points.float32", to=ir.DataType.FLOAT)
    else:
        zero = writer.constant(f"float32.{fmt.zero_code}", np.array(fmt.zero_code, np.float32))
    centered = writer.op("Sub", floats, zero, name=f"{name}.signed")
    column = writer.op("Reshape", scales, writer.integers(-1, count, 1), name=f"{name}.column")
    scaled = writer.op("Mul", centered, column, name=f"{name}.scaled")
    padded = fmt.padded_inputs(width)
    if padded == width:
        return writer.op("Reshape", scaled, writer.integers(-1, width), name=name)
    flat = writer.op("Reshape", scaled, writer.integers(-1, padded), name=f"{name}.padded")
    return writer.op("Slice", flat, writer.integers(0), writer.integers(width), writer.integers(1), name=name)
