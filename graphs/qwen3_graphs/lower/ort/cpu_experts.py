"""A mixture of experts by ONNX Runtime's MoE and QMoE on CPU.

Both route by a softmax of the logits and want the gate's and the up projection's rows in turns. QMoE's own softmax
is over the chosen experts alone, which is the same after renormalization and not the same without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.ort.operators import CONTRIB, accuracy_level
from qwen3_graphs.lowered import TensorSlot

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.formats import WeightFormat
    from qwen3_graphs.lower.core.padded import PaddedGraph
    from qwen3_graphs.lower.core.writer import Attribute, Sources


# silu(g) * l, rows of the gate g and of the up projection l in turns.
SWIGLU: dict[str, Attribute] = {
    "activation_type": "swiglu",
    "swiglu_fusion": 1,
    "activation_alpha": 1.0,
    "activation_beta": 0.0,
}


def lower_moe(step: PaddedGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write `qwen3::MoE` of x [B*S, H].

    Raises:
        LoweringError: integer experts whose inputs are not whole groups, or eight-bit ones with float32 inputs.
    """
    writer, fmt, name = step.writer, step.precision.weights, str(node.outputs[0].name)
    if fmt.kind == "int8" and not step.precision.quantized_activations:
        raise LoweringError("target ort: int8 experts quantize their inputs, found weight-only quantization")
    top_k, normalize = node.attributes["top_k"].as_int(), node.attributes["normalize"].as_int()
    router = weights.add_vector(writer, node.inputs[1])
    logits = writer.op("Gemm", x, router, name=f"{name}.router", transB=1)
    count, width, hidden = weights.dims(node.inputs[2])
    upward = weights.expert_sources(node.inputs[2:4], count)
    downward = weights.expert_sources(node.inputs[4:5], count)
    prefix = weights.source(node.inputs[4]).removesuffix("down_proj.weight")
    attributes: dict[str, Attribute] = {"k": top_k, "normalize_routing_weights": normalize, **SWIGLU}
    if fmt.is_float:
        kind = fmt.onnx_type
        up_slot = TensorSlot(f"{prefix}gate_up.weight", kind, (count, 2 * width, hidden))
        (up,) = writer.add_weight("interleaved_rows", fmt, upward, [up_slot])
        down = weights.add_rows(writer, fmt, downward, f"{prefix}down.weight", (count, hidden, width))
        up, down = weights.cast_to_float32(writer, up), weights.cast_to_float32(writer, down)
        return writer.op("MoE", x, logits, up, None, down, name=name, domain=CONTRIB, **attributes)
    gate_up, up_zero_points = _add_expert_codes(
        step, fmt, "interleaved_nbit_rows", upward, f"{prefix}gate_up", 2 * width, hidden
    )
    down_matrices, down_zero_points = _add_expert_codes(
        step, fmt, "nbit_rows", downward, f"{prefix}down", hidden, width
    )
    routing_weights = None if normalize else writer.op("Softmax", logits, name=f"{name}.shares", axis=-1)
    unused = [None] * 4  # the down projection's bias; a third matrix with its scales and bias
    return writer.op(
        "QMoE",
        *(x, logits, *gate_up, None, *down_matrices, *unused, up_zero_points, down_zero_points, None, routing_weights),
        name=name,
        domain=CONTRIB,
        expert_weight_bits=fmt.bits,
        block_size=fmt.group_size,
        accuracy_level=accuracy_level(step.precision),
        **attributes,
    )


def _add_expert_codes(
    step: PaddedGraph, fmt: WeightFormat, layout: str, sources: Sources, prefix: str, outputs: int, inputs: int
) -> tuple[tuple[ir.Value, ir.Value], ir.Value | None]:
    """Return codes uint8 [E, N, K * bits / 8] and scales float32 [E, N, groups]; and the format's zero points."""
    if inputs % fmt.group_size:
        raise LoweringError(
            f"target ort: {fmt.kind} experts need a group_size that divides their inputs, "
            f"found {fmt.group_size} for {inputs} inputs of {prefix}"
        )
    slots = [
        TensorSlot(f"{prefix}.codes", "UINT8", (len(sources), outputs, inputs * fmt.bits // 8)),
        TensorSlot(f"{prefix}.scales", "FLOAT", (len(sources), outputs, inputs // fmt.group_size)),
        *weights.zero_points(fmt, prefix, (len(sources), outputs, inputs)),
    ]
    codes, scales, *zero_points = step.writer.add_weight(layout, fmt, sources, slots)
    return (codes, scales), zero_points[0] if zero_points else None
