"""Rows of a quantised table as float32, by standard operators that read only the rows wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from qwen3_graphs.formats import WeightFormat
    from qwen3_graphs.lower.core.writer import GraphWriter


def dequantized_rows(
    writer: GraphWriter,
    fmt: WeightFormat,
    table: tuple[ir.Value, ...],
    index: ir.Value,
    width: int,
    name: str,
) -> ir.Value:
    """Gather entries of a table in layout `nbit_rows` and dequantise them.

    A four-bit type cannot be gathered by the standard operator, so the codes stay packed in bytes until then.

    Args:
        writer: receives the nodes.
        fmt: an integer format.
        table: codes uint8 [M, ..., K_padded * bits / 8] and scales float32 [M, ..., groups].
        index: integer scalar or [n], entries of the first axis.
        width: K, what remains of a row after its padding is cut off.
        name: of the result.

    Returns:
        float32 [rows, width]; leading axes are flattened into one.
    """
    size, zero = fmt.group_size or width, fmt.zero_code
    codes, scales = (
        writer.op("Gather", part, index, name=f"{name}.{what}", axis=0)
        for part, what in zip(table, ("codes", "scales"), strict=True)
    )
    if fmt.bits == 4:
        codes = _nibbles(writer, codes, name)
    grouped = writer.op("Reshape", codes, writer.integers(-1, -(-width // size), size), name=f"{name}.grouped")
    floats = writer.op("Cast", grouped, name=f"{name}.float32", to=ir.DataType.FLOAT)
    middle = writer.constant(f"float32.{zero}", np.array(zero, np.float32))
    centred = writer.op("Sub", floats, middle, name=f"{name}.signed")
    column = writer.op("Reshape", scales, writer.integers(-1, -(-width // size), 1), name=f"{name}.column")
    scaled = writer.op("Mul", centred, column, name=f"{name}.scaled")
    padded = -(-width // size) * size
    if padded == width:
        return writer.op("Reshape", scaled, writer.integers(-1, width), name=name)
    flat = writer.op("Reshape", scaled, writer.integers(-1, padded), name=f"{name}.padded")
    return writer.op("Slice", flat, writer.integers(0), writer.integers(width), writer.integers(1), name=name)


def _nibbles(writer: GraphWriter, codes: ir.Value, name: str) -> ir.Value:
    """Return the two halves of each byte, low first, along a new last axis."""
    low = writer.op("BitwiseAnd", codes, writer.constant("uint8.15", np.array(15, np.uint8)), name=f"{name}.low")
    shift = writer.constant("uint8.4", np.array(4, np.uint8))
    high = writer.op("BitShift", codes, shift, name=f"{name}.high", direction="RIGHT")
    halves = [writer.op("Unsqueeze", half, writer.integers(-1), name=f"{half.name}.half") for half in (low, high)]
    return writer.op("Concat", *halves, name=f"{name}.nibbles", axis=-1)
