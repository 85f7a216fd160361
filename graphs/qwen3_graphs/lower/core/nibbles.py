"""Codes of four bits, two in a byte, taken apart by standard operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lower.core.writer import GraphWriter


def unpack_nibbles(writer: GraphWriter, packed: ir.Value, name: str) -> ir.Value:
    """Return the two halves of each byte, low first, along a new last axis."""
    low = writer.op("BitwiseAnd", packed, writer.constant("uint8.15", np.array(15, np.uint8)), name=f"{name}.low")
    shift = writer.constant("uint8.4", np.array(4, np.uint8))
    high = writer.op("BitShift", packed, shift, name=f"{name}.high", direction="RIGHT")
    halves = [writer.op("Unsqueeze", half, writer.integers(-1), name=f"{half.name}.half") for half in (low, high)]
    return writer.op("Concat", *halves, name=f"{name}.nibbles", axis=-1)


def unpack_zero_points(writer: GraphWriter, packed: ir.Value, count: int, name: str) -> ir.Value:
    """Return zero points, of which each row has `count` and begins at a byte, as uint8 [rows, count, 1]."""
    pairs = unpack_nibbles(writer, packed, name)
    rows = writer.op("Reshape", pairs, writer.integers(-1, count + count % 2), name=f"{name}.rows")
    if count % 2:
        ends = writer.integers(0), writer.integers(count), writer.integers(1)
        rows = writer.op("Slice", rows, *ends, name=f"{name}.groups")
    return writer.op("Unsqueeze", rows, writer.integers(-1), name=f"{name}.column")
