"""A mixture of experts by ONNX Runtime's MoE and QMoE on CUDA.

Integer codes are in the order of the checkpoint's rows only where the attribute `weights_prepacked` says so: without
it they are taken for an interleaved layout, and no error tells. The routing weights of the chosen experts must be
renormalized: what these kernels do otherwise is not documented. QMoE describes fp8 experts, but the released GPU
distribution is built without their kernels and refuses them when a session opens (tried with 1.31.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import onnx_type
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.ort.cpu_experts import SWIGLU
from qwen3_graphs.lower.ort.formats import CUDA_EXPERTS
from qwen3_graphs.lower.ort.operators import CONTRIB
from qwen3_graphs.lowered import TensorSlot

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.formats import WeightFormat
    from qwen3_graphs.lower.core.padded import PaddedGraph
    from qwen3_graphs.lower.core.writer import Sources


@dataclass(frozen=True)
class _Projection:
    """Matrices of every expert: their name, checkpoint tensors and shape [experts, outputs, inputs]."""

    name: str
    sources: Sources
    shape: tuple[int, int, int]

    @property
    def is_pair(self) -> bool:
        """Whether it is gate and up projection in one."""
        return len(self.sources[0]) == 2


def lower_moe(step: PaddedGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write `qwen3::MoE` of x [B*S, H].

    Raises:
        LoweringError: routing weights are not normalized, or the operators do not take the format or its groups.
    """
    writer, fmt, name = step.writer, step.precision.weights, str(node.outputs[0].name)
    weights.check_format(fmt, "ort on cuda", "format of experts", CUDA_EXPERTS)
    if not node.attributes["normalize"].as_int():
        raise LoweringError("target ort on cuda: routing weights are normalized (norm_topk_prob true), found false")
    router = weights.add_vector(writer, node.inputs[1], step.precision.activations)
    logits = writer.op("Gemm", x, router, name=f"{name}.router", transB=1)
    attributes = {"k": node.attributes["top_k"].as_int(), "normalize_routing_weights": 1, **SWIGLU}
    up, down = _projections(node)
    if fmt.is_float:
        matrices = (_add_floats(step, fmt, up), None, _add_floats(step, fmt, down))
        return writer.op("MoE", x, logits, *matrices, name=name, domain=CONTRIB, **attributes)
    return writer.op(
        "QMoE",
        *(x, logits, *_add_codes(step, fmt, up), None, *_add_codes(step, fmt, down)),
        name=name,
        domain=CONTRIB,
        expert_weight_bits=fmt.bits,
        block_size=fmt.group_size,
        weights_prepacked=0,
        **attributes,
    )


def _projections(node: ir.Node) -> tuple[_Projection, _Projection]:
    count, width, hidden = weights.dims(node.inputs[2])
    prefix = weights.source(node.inputs[4]).removesuffix("down_proj.weight")
    return (
        _Projection(f"{prefix}gate_up", weights.expert_sources(node.inputs[2:4], count), (count, 2 * width, hidden)),
        _Projection(f"{prefix}down", weights.expert_sources(node.inputs[4:5], count), (count, hidden, width)),
    )


def _add_floats(step: PaddedGraph, fmt: WeightFormat, projection: _Projection) -> ir.Value:
    slot = TensorSlot(f"{projection.name}.weight", fmt.onnx_type, projection.shape)
    layout = "interleaved_rows" if projection.is_pair else "rows"
    return step.writer.add_weight(layout, fmt, projection.sources, [slot])[0]


def _add_codes(step: PaddedGraph, fmt: WeightFormat, projection: _Projection) -> tuple[ir.Value, ...]:
    """Return codes uint8 [E, N, K * bits / 8] and scales [E, N, groups] in the activations' type."""
    kind, (*leading, inputs) = step.precision.activations, projection.shape
    if inputs % fmt.group_size:
        raise LoweringError(
            f"target ort on cuda: {fmt.kind} experts need a group_size that divides their inputs, "
            f"found {fmt.group_size} for {inputs} inputs of {projection.name}"
        )
    slots = [
        TensorSlot(f"{projection.name}.codes", "UINT8", (*leading, inputs * fmt.bits // 8)),
        TensorSlot(f"{projection.name}.scales", onnx_type(kind), (*leading, inputs // fmt.group_size)),
    ]
    layout = f"interleaved_nbit_rows_{kind}" if projection.is_pair else f"nbit_rows_{kind}"
    return step.writer.add_weight(layout, fmt, projection.sources, slots)
