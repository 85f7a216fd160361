"""From checkpoint matrices to the bytes that an operator reads: one function for each layout.

A lowering names the layout of each weight (`WeightRecipe.layout`); the build calls `pack` for one entry of the
recipe at a time, which bounds memory by the largest matrix. `rope_cos` and `rope_sin` are not here: they have no
sources, and come from `qwen3_graphs.rope.rope_tables`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts import nbit_rows, panels, rows, signed_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qwen3_compile.pack.layouts.rows import Array
    from qwen3_graphs.lowered import WeightFormat

LAYOUTS: Mapping[str, Callable[[tuple[Array, ...], WeightFormat], tuple[Array, ...]]] = {
    "rows": rows.pack,
    "interleaved_rows": rows.pack_interleaved,
    "nbit_rows": nbit_rows.pack,
    "nbit_blocks": nbit_rows.pack_blocks,
    "interleaved_nbit_rows": nbit_rows.pack_interleaved,
    "signed_columns": signed_columns.pack,
    "panels": panels.pack,
    "gate_up_panels": panels.pack_gate_up,
}


def pack(layout: str, sources: tuple[Array, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Arrange one entry of a recipe.

    Args:
        layout: a key of `LAYOUTS`.
        sources: the entry's checkpoint tensors, in a floating-point type.
        fmt: the number format to write.

    Returns:
        C-contiguous arrays whose bytes are those of the recipe's outputs (of one entry of them, where the recipe
        stacks several); types below eight bits come packed, as uint8.

    Raises:
        CheckpointError: a source holds a value that is not finite.
        UnsupportedError: the layout is unknown, or cannot hold the format or the shape.
    """
    if layout not in LAYOUTS:
        raise UnsupportedError(f"unknown weight layout {layout!r}: expected one of {', '.join(sorted(LAYOUTS))}")
    return LAYOUTS[layout](sources, fmt)
