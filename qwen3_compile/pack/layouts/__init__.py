"""From checkpoint matrices to the bytes that an operator reads: one function for each layout.

A lowering names the layout of each weight (`WeightRecipe.layout`); the build calls `pack` for one entry of the
recipe at a time, which bounds memory by the largest matrix. `rope_cos` and `rope_sin` are not here: they have no
sources, and come from `qwen3_graphs.rope.rope_tables`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts.core import nbit_rows, rows
from qwen3_compile.pack.layouts.onnx import integer_columns
from qwen3_compile.pack.layouts.ort import float8_rows
from qwen3_compile.pack.layouts.ort_plugins import panels
from qwen3_compile.pack.layouts.tensorrt import columns, experts
from qwen3_compile.quantize import Float8, Quantized, values
from qwen3_graphs.formats import FLOATS, INTEGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qwen3_compile.pack.layouts.core.rows import Array
    from qwen3_compile.quantize import Stored
    from qwen3_graphs.formats import WeightFormat


@dataclass(frozen=True)
class Layout:
    """How matrices are arranged.

    Attributes:
        pack: takes an entry's matrices and their format; returns the arrays of the recipe's outputs.
        kinds: that it holds.
        keeps: what it takes over from a checkpoint as it is stored, where the formats agree.
    """

    pack: Callable[[tuple[Any, ...], WeightFormat], tuple[Array, ...]]
    kinds: tuple[str, ...]
    keeps: tuple[type, ...] = ()


LAYOUTS: Mapping[str, Layout] = {
    "rows": Layout(rows.pack, FLOATS),
    "interleaved_rows": Layout(rows.pack_interleaved, FLOATS),
    "nbit_rows": Layout(nbit_rows.pack, INTEGERS),
    "nbit_blocks": Layout(nbit_rows.pack_blocks, INTEGERS),
    "interleaved_nbit_rows": Layout(nbit_rows.pack_interleaved, INTEGERS),
    "nbit_rows_fp16": Layout(partial(nbit_rows.pack, scale_type="fp16"), INTEGERS),
    "nbit_rows_bf16": Layout(partial(nbit_rows.pack, scale_type="bf16"), INTEGERS),
    "nbit_blocks_fp16": Layout(partial(nbit_rows.pack_blocks, scale_type="fp16"), INTEGERS),
    "nbit_blocks_bf16": Layout(partial(nbit_rows.pack_blocks, scale_type="bf16"), INTEGERS),
    "interleaved_nbit_rows_fp16": Layout(partial(nbit_rows.pack_interleaved, scale_type="fp16"), INTEGERS),
    "interleaved_nbit_rows_bf16": Layout(partial(nbit_rows.pack_interleaved, scale_type="bf16"), INTEGERS),
    "float8_rows": Layout(float8_rows.pack, ("fp8",), (Float8,)),
    "integer_columns": Layout(integer_columns.pack, INTEGERS),
    "panels": Layout(panels.pack, panels.KINDS, (Float8,)),
    "gate_up_panels": Layout(panels.pack_gate_up, panels.KINDS, (Float8,)),
    "columns": Layout(columns.pack, FLOATS),
    "scaled_columns": Layout(columns.pack_scaled, ("fp8", "int8"), (Float8,)),
    "scaled_columns_fp16": Layout(columns.grouped_packer("fp16"), ("int4",), (Quantized,)),
    "scaled_columns_bf16": Layout(columns.grouped_packer("bf16"), ("int4",), (Quantized,)),
    "experts": Layout(experts.pack, (*FLOATS, "fp8"), (Float8,)),
    "experts_fp16": Layout(experts.int4_packer("fp16"), ("int4",), (Quantized,)),
    "experts_bf16": Layout(experts.int4_packer("bf16"), ("int4",), (Quantized,)),
}


def pack(name: str, sources: tuple[Stored, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Arrange one entry of a recipe.

    Args:
        name: a key of `LAYOUTS`.
        sources: the entry's checkpoint tensors: in a floating-point type, or codes with their scales. Those that the
            layout keeps reach a format with the same kind of scales bit for bit; others are dequantized first.
        fmt: the number format to write.

    Returns:
        C-contiguous arrays whose bytes are those of the recipe's outputs (of one entry of them, where the recipe
        stacks several); types below eight bits come packed, as uint8.

    Raises:
        CheckpointError: a source holds a value that is not finite.
        UnsupportedError: the layout is unknown, or cannot hold the format or the shape.
    """
    if name not in LAYOUTS:
        raise UnsupportedError(f"unknown weight layout {name!r}: expected one of {', '.join(sorted(LAYOUTS))}")
    layout = LAYOUTS[name]
    if fmt.kind not in layout.kinds:
        file = "ort_plugins/panels.py" if layout.kinds is panels.KINDS else "__init__.py"
        raise UnsupportedError(
            f"layout {name} holds {', '.join(layout.kinds)}, found {fmt.kind}: kinds of layouts are listed in "
            f"qwen3_compile/pack/layouts/{file}"
        )
    # E4M3 is for fp8 alone: no other format has its codes.
    keeps = tuple(kept for kept in layout.keeps if kept is not Float8 or fmt.kind == "fp8")
    return layout.pack(tuple(tensor if isinstance(tensor, keeps) else values(tensor) for tensor in sources), fmt)
