"""Where the rows of a padded step stand, computed in the graph once for all layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from qwen3_graphs.lower.core.padded import PaddedGraph


def first_positions(step: PaddedGraph) -> ir.Value:
    """Where each sequence's new tokens begin, int64 [B]."""
    return step.once(
        "starts", lambda: step.writer.op("Cast", step.context_len, name="step.starts", to=ir.DataType.INT64)
    )


def longest_end(step: PaddedGraph) -> ir.Value:
    """Return where the longest sequence ends, int64 [1], padding included."""

    def make() -> ir.Value:
        most = step.writer.op("ReduceMax", first_positions(step), name="step.most", keepdims=1)
        return step.writer.op("Add", most, step.length, name="step.end")

    return step.once("end", make)


def _range(step: PaddedGraph, end: ir.Value, name: str) -> ir.Value:
    """Return 0, 1, ... below `end` int64 [1], as int64 [1, end]."""
    writer = step.writer
    limit = writer.op("Squeeze", end, writer.integers(0), name=f"{name}.limit")
    values = writer.op("Range", writer.integer(0), limit, writer.integer(1), name=f"{name}.range")
    return writer.op("Unsqueeze", values, writer.integers(0), name=name)


def position_of_rows(step: PaddedGraph) -> ir.Value:
    """Return the position of each row, int64 [B, S]."""

    def make() -> ir.Value:
        starts = step.writer.op("Unsqueeze", first_positions(step), step.writer.integers(1), name="step.first_position")
        return step.writer.op("Add", starts, _range(step, step.length, "step.offsets"), name="step.positions")

    return step.once("positions", make)


def causal_mask(step: PaddedGraph) -> ir.Value:
    """Return which keys each row attends to, bool [B, 1, S, end]: those up to its own position."""

    def make() -> ir.Value:
        writer = step.writer
        row = writer.op("Unsqueeze", position_of_rows(step), writer.integers(1, 3), name="step.row_position")
        return writer.op("LessOrEqual", _range(step, longest_end(step), "step.keys"), row, name="step.mask")

    return step.once("mask", make)
