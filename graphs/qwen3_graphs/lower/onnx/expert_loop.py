"""A mixture of experts in standard operators: a Loop over the experts that some token chose.

The graph grows by one body a layer, whatever the number of experts, and a step reads only the weights of experts
in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.onnx.gather_dequantized import gather_dequantized

if TYPE_CHECKING:
    from qwen3_graphs.formats import WeightFormat
    from qwen3_graphs.lower.core.padded import PaddedGraph
    from qwen3_graphs.lower.core.writer import GraphWriter


def lower_moe(step: PaddedGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write `qwen3::MoE` of x [B*S, H]."""
    writer, name = step.writer, str(node.outputs[0].name)
    routing_weight, expert_id = _route(writer, node, x, name)
    flat = writer.op("Reshape", expert_id, writer.integers(-1), name=f"{name}.choices")
    used = writer.op("Unique", flat, name=f"{name}.used", sorted=1)
    body = _write_body(step, node, (x, routing_weight, expert_id, used), name)
    zero = writer.constant("float32.0", np.array(0, np.float32))
    return writer.op(
        "Loop",
        writer.op("Size", used, name=f"{name}.used_count"),
        writer.constant("bool.true", np.array(True)),
        writer.op("Expand", zero, writer.op("Shape", x, name=f"{name}.shape"), name=f"{name}.zeros"),
        name=name,
        body=body,
    )


def _route(writer: GraphWriter, node: ir.Node, x: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
    """Return each row's routing weights float32 [B*S, k] and their expert ids int64 [B*S, k]."""
    router = weights.add_vector(writer, node.inputs[1])
    logits = writer.op("Gemm", x, router, name=f"{name}.router", transB=1)
    probability = writer.op("Softmax", logits, name=f"{name}.probability", axis=-1)
    top_k = writer.integers(node.attributes["top_k"].as_int())
    routing_weight, expert_id = writer.op_with_outputs(
        "TopK", probability, top_k, names=(f"{name}.top_probability", f"{name}.choice"), axis=-1
    )
    if node.attributes["normalize"].as_int():
        total = writer.op("ReduceSum", routing_weight, writer.integers(-1), name=f"{name}.total", keepdims=1)
        routing_weight = writer.op("Div", routing_weight, total, name=f"{name}.share")
    return routing_weight, expert_id


def _write_body(step: PaddedGraph, node: ir.Node, outer: tuple[ir.Value, ...], name: str) -> ir.Graph:
    """Add one expert's outputs to the sum so far."""
    x, routing_weight, expert_id, used = outer
    writer, prefix = step.writer.body(), f"{name}.expert"
    iteration = ir.Value(name=f"{prefix}.turn", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    go = ir.Value(name=f"{prefix}.go", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    # The rows are declared, not inferred: a Loop gives its body no shapes.
    rows = ir.Shape([None, weights.dims(node.inputs[2])[2]])
    total = ir.Value(name=f"{prefix}.sum", type=ir.TensorType(ir.DataType.FLOAT), shape=rows)

    expert = writer.op("Gather", used, iteration, name=f"{prefix}.number", axis=0)
    hit = writer.op("Equal", expert_id, expert, name=f"{prefix}.hit")
    place = writer.op("Transpose", writer.op("NonZero", hit, name=f"{prefix}.places"), name=f"{prefix}.place")
    row = writer.op("Gather", place, writer.integers(0), name=f"{prefix}.rows", axis=1)
    token = writer.op("GatherND", x, row, name=f"{prefix}.tokens")
    weight = writer.op("GatherND", routing_weight, place, name=f"{prefix}.shares")
    column = writer.op("Unsqueeze", weight, writer.integers(1), name=f"{prefix}.share_column")
    expert_output = _write_swiglu(step, writer, node, token, expert, prefix)
    scaled = writer.op("Mul", expert_output, column, name=f"{prefix}.scaled")
    new_total = writer.op("ScatterND", total, row, scaled, name=f"{prefix}.new_sum", reduction="add")
    still = writer.op("Identity", go, name=f"{prefix}.still")
    still.type, still.shape = go.type, go.shape
    new_total.type, new_total.shape = total.type, rows
    return ir.Graph([iteration, go, total], [still, new_total], nodes=writer.nodes, name=f"{prefix}.body")


def _write_swiglu(
    step: PaddedGraph, writer: GraphWriter, node: ir.Node, x: ir.Value, expert: ir.Value, prefix: str
) -> ir.Value:
    def project(rows: ir.Value, index: int, what: str) -> ir.Value:
        matrix = _gather_matrix(writer, step.precision.weights, node.inputs[index], expert, f"{prefix}.{what}_weight")
        return writer.op("Gemm", rows, matrix, name=f"{prefix}.{what}", transB=1)

    gate, up = project(x, 2, "gate"), project(x, 3, "up")
    sigmoid = writer.op("Sigmoid", gate, name=f"{prefix}.sigmoid")
    silu = writer.op("Mul", gate, sigmoid, name=f"{prefix}.silu")
    return project(writer.op("Mul", silu, up, name=f"{prefix}.product"), 4, "down")


def _gather_matrix(
    writer: GraphWriter, fmt: WeightFormat, stacked: ir.Value | None, expert: ir.Value, name: str
) -> ir.Value:
    """Return one expert's matrix, float32 [N, K]."""
    experts, outputs, inputs = weights.dims(stacked)
    sources, slot = weights.expert_sources([stacked], experts), weights.source(stacked)
    if fmt.is_float:
        table = weights.add_rows(writer, fmt, sources, slot, (experts, outputs, inputs))
        return weights.gather(writer, table, expert, name)
    codes = weights.add_nbit_rows(writer, fmt, sources, slot, (experts, outputs, inputs))
    return gather_dequantized(writer, fmt, codes, expert, inputs, name)
