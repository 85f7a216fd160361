"""Matrices in panels of 16 rows, as the operators of the ONNX Runtime plugin read them (`qwen3_plugins.layouts`).

| layout | initializers |
|---|---|
| `panels` | the entry's matrices, one below the other: a blob of codes, uint8; scales of formats that have them |
| `gate_up_panels` | the entry's gate and up in turns, panel by panel; the same initializers |

Scales are float16 in groups, with the zero points beside them where the format has those, and float32 otherwise.
Stacked entries (the experts) follow each other along the first axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lowered import TensorSlot
from qwen3_plugins.layouts import PANEL, padded_inputs, scale_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_graphs.formats import WeightFormat
    from qwen3_graphs.lower.core.writer import Attribute, GraphWriter, Sources


@dataclass(frozen=True)
class Panels:
    """A packed matrix [n, k] (or a stack of them): its initializers and what an operator must know of it."""

    codes: ir.Value
    scales: ir.Value | None
    format: WeightFormat
    n: int
    k: int

    def attributes(self) -> dict[str, Attribute]:
        """Return the attributes by which an operator of one matrix knows its layout."""
        return {"format": self.format.kind, "group_size": self.format.group_size, "n": self.n, "k": self.k}


def add_stacked_rows(writer: GraphWriter, fmt: WeightFormat, matrices: Sequence[ir.Value | None]) -> Panels:
    """Return matrices [N_i, K] one below the other, as one matrix [sum of N_i, K].

    Raises:
        LoweringError: they have different numbers of inputs, or blocks of fp8 would meet within a panel.
    """
    shapes = [weights.dims(matrix) for matrix in matrices]
    inputs = {shape[1] for shape in shapes}
    if len(inputs) != 1:
        raise LoweringError(f"target ort with plugins: {_stem(matrices)} should have equal inputs, found {shapes}")
    sources = (tuple(weights.source(matrix) for matrix in matrices),)
    outputs = sum(shape[0] for shape in shapes)
    if fmt.granularity == "per-block" and any(shape[0] % PANEL for shape in shapes[:-1]):
        raise LoweringError(
            f"target ort with plugins: {_stem(matrices)} have {[shape[0] for shape in shapes]} outputs; "
            f"fp8 with block scales needs multiples of {PANEL}: use one scale per channel"
        )
    return _add_panels(writer, "panels", fmt, sources, _stem(matrices), outputs, inputs.pop())


def add_gate_up(writer: GraphWriter, fmt: WeightFormat, gate: ir.Value | None, up: ir.Value | None) -> Panels:
    """Return a gate and an up matrix [I, K] as SwiGLU's kernels take them; n is 2 * I.

    Raises:
        LoweringError: their shapes differ.
    """
    width, inputs = _equal_dims(gate, up)
    sources = ((weights.source(gate), weights.source(up)),)
    return _add_panels(writer, "gate_up_panels", fmt, sources, _stem((gate, up)), 2 * width, inputs)


def add_experts(
    writer: GraphWriter, fmt: WeightFormat, gate: ir.Value | None, up: ir.Value | None, down: ir.Value | None
) -> tuple[Panels, Panels]:
    """Return the stacked experts gate [E,I,H], up [E,I,H] and down [E,H,I] as two stacks, gate and up in turns.

    Raises:
        LoweringError: their shapes do not fit each other.
    """
    count, width, hidden = _equal_dims(gate, up)
    if weights.dims(down) != (count, hidden, width):
        raise LoweringError(f"target ort with plugins: {weights.source(down)} should be {[count, hidden, width]}")
    upward, downward = weights.expert_sources((gate, up), count), weights.expert_sources((down,), count)
    return (
        _add_panels(writer, "gate_up_panels", fmt, upward, _stem((gate, up)), 2 * width, hidden),
        _add_panels(writer, "panels", fmt, downward, _stem((down,)), hidden, width),
    )


def _add_panels(
    writer: GraphWriter, layout: str, fmt: WeightFormat, sources: Sources, stem: str, n: int, k: int
) -> Panels:
    count = 2 * -(-n // 2 // PANEL) if layout == "gate_up_panels" else -(-n // PANEL)
    width = padded_inputs(fmt.kind, k, fmt.group_size)
    slots = [TensorSlot(f"{stem}.codes", "UINT8", (len(sources), count * PANEL * width * fmt.bits // 8))]
    if scales := scale_array(fmt.kind, fmt.group_size, count, width):
        dtype, shape = scales
        name = ir.DataType.from_numpy(np.dtype(dtype)).name
        slots.append(TensorSlot(f"{stem}.scales", name, (len(sources), *shape)))
    codes, *rest = writer.add_weight(layout, fmt, sources, slots)
    return Panels(codes, rest[0] if rest else None, fmt, n, k)


def _equal_dims(first: ir.Value | None, second: ir.Value | None) -> tuple[int, ...]:
    shape = weights.dims(first)
    if weights.dims(second) != shape:
        raise LoweringError(f"target ort with plugins: {_stem((first, second))} should have equal shapes")
    return shape


def _stem(matrices: Sequence[ir.Value | None]) -> str:
    """Name what several matrices of one module make: `a.q_proj.weight` and `a.k_proj.weight` are `a.q_proj+k_proj`."""
    names = [weights.source(matrix).removesuffix(".weight") for matrix in matrices]
    return "+".join([names[0], *(name.rpartition(".")[2] for name in names[1:])])
