"""From checkpoint matrices to the bytes that an operator reads: one function for each layout.

A lowering names the layout of each weight (`WeightRecipe.layout`); the build calls `pack` for one entry of the
recipe at a time, which bounds memory by the largest matrix. `rope_cos` and `rope_sin` are not here: they have no
sources, and come from `qwen3_graphs.rope.rope_tables`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts.core import nbit_rows, rows
from qwen3_compile.pack.layouts.onnx import signed_columns
from qwen3_compile.pack.layouts.ort import float8_rows
from qwen3_compile.pack.layouts.ort_plugins import panels
from qwen3_compile.pack.layouts.tensorrt import columns, experts
from qwen3_compile.quantize import Float8, Quantized, values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qwen3_compile.pack.layouts.core.rows import Array, Source
    from qwen3_compile.quantize import Stored
    from qwen3_graphs.lowered import WeightFormat

LAYOUTS: Mapping[str, Callable[[tuple[Array, ...], WeightFormat], tuple[Array, ...]]] = {
    "rows": rows.pack,
    "interleaved_rows": rows.pack_interleaved,
    "nbit_rows": nbit_rows.pack,
    "nbit_blocks": nbit_rows.pack_blocks,
    "interleaved_nbit_rows": nbit_rows.pack_interleaved,
    "nbit_rows_fp16": partial(nbit_rows.pack, scale_type="fp16"),
    "nbit_rows_bf16": partial(nbit_rows.pack, scale_type="bf16"),
    "nbit_blocks_fp16": partial(nbit_rows.pack_blocks, scale_type="fp16"),
    "nbit_blocks_bf16": partial(nbit_rows.pack_blocks, scale_type="bf16"),
    "interleaved_nbit_rows_fp16": partial(nbit_rows.pack_interleaved, scale_type="fp16"),
    "interleaved_nbit_rows_bf16": partial(nbit_rows.pack_interleaved, scale_type="bf16"),
    "signed_columns": signed_columns.pack,
    "panels": panels.pack,
    "gate_up_panels": panels.pack_gate_up,
    "columns": columns.pack,
    "scaled_columns": columns.pack_scaled,
    "experts": experts.pack,
}

INT4_LAYOUTS: Mapping[str, Callable[[tuple[Array | Quantized, ...], WeightFormat], tuple[Array, ...]]] = {
    "scaled_columns_fp16": columns.pack_grouped("fp16"),
    "scaled_columns_bf16": columns.pack_grouped("bf16"),
    "experts_fp16": experts.pack_int4("fp16"),
    "experts_bf16": experts.pack_int4("bf16"),
}

FLOAT8_LAYOUTS: Mapping[str, Callable[[tuple[Source, ...], WeightFormat], tuple[Array, ...]]] = {
    "panels": panels.pack,
    "gate_up_panels": panels.pack_gate_up,
    "scaled_columns": columns.pack_scaled,
    "float8_rows": float8_rows.pack,
    "experts": experts.pack,
}


def pack(layout: str, sources: tuple[Stored, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Arrange one entry of a recipe.

    Args:
        layout: a key of `LAYOUTS`, of `INT4_LAYOUTS`, or of `FLOAT8_LAYOUTS` for fp8.
        sources: the entry's checkpoint tensors: in a floating-point type, or codes with their scales. E4M3 reaches an
            fp8 format with the same kind of scales bit for bit, and codes of four bits the formats of `INT4_LAYOUTS`
            in the same groups; for any other they are dequantised first.
        fmt: the number format to write.

    Returns:
        C-contiguous arrays whose bytes are those of the recipe's outputs (of one entry of them, where the recipe
        stacks several); types below eight bits come packed, as uint8.

    Raises:
        CheckpointError: a source holds a value that is not finite.
        UnsupportedError: the layout is unknown, or cannot hold the format or the shape.
    """
    known = LAYOUTS.keys() | INT4_LAYOUTS.keys() | FLOAT8_LAYOUTS.keys()
    if layout not in known:
        raise UnsupportedError(f"unknown weight layout {layout!r}: expected one of {', '.join(sorted(known))}")
    if fmt.kind == "fp8":
        if layout not in FLOAT8_LAYOUTS:
            raise UnsupportedError(f"layout {layout} does not hold fp8: {', '.join(FLOAT8_LAYOUTS)} do")
        return FLOAT8_LAYOUTS[layout](
            tuple(source if isinstance(source, Float8) else values(source) for source in sources), fmt
        )
    if layout in INT4_LAYOUTS:
        return INT4_LAYOUTS[layout](
            tuple(source if isinstance(source, Quantized) else values(source) for source in sources), fmt
        )
    if layout not in LAYOUTS:
        raise UnsupportedError(f"layout {layout} holds fp8 only, found {fmt.kind}")
    return LAYOUTS[layout](tuple(values(source) for source in sources), fmt)
