"""Targets `tensorrt` and `tensorrt-rtx` with our plugins in place of TensorRT's own attention or experts.

With `attention` the interface is the semantic graph's, packed steps over a paged cache, and each layer's attention
is one `Qwen3Attention` node. With `moe` each mixture of experts is one `Qwen3MoE` node, in either interface. Everything
else is written as without plugins. Both nodes are of domain `qwen3` and have a model-local function of the same name,
so that ONNX Runtime on CPU executes the file; TensorRT gets the file without the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from qwen3_graphs import schemas
from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.packed import PackedGraph, lower_packed
from qwen3_graphs.lower.core.padded import lower_padded
from qwen3_graphs.lower.tensorrt import attention as native_attention
from qwen3_graphs.lower.tensorrt import functions as native_functions
from qwen3_graphs.lower.tensorrt import graph as native
from qwen3_graphs.lower.tensorrt.experts import lower_moe
from qwen3_graphs.lower.tensorrt.formats import EXPERTS
from qwen3_graphs.lower.tensorrt.matrices import activation_type
from qwen3_graphs.lower.tensorrt.plugin_functions import attention_functions, expert_functions
from qwen3_graphs.lowered import TensorSlot
from qwen3_plugins.tensorrt.kernels.attention import HEAD_DIMS

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lower.core.step import StepGraph
    from qwen3_graphs.lower.core.writer import Sources
    from qwen3_graphs.lowered import Limits, Lowered, Plugins, Precision

# Of weights without scales: TensorRT has no absent inputs of plugins.
_UNUSED_SCALES = {"fp16": np.ones(1, np.float16), "bf16": np.ones(1, ml_dtypes.bfloat16)}


def lower(semantic: ir.Model, precision: Precision, limits: Limits, plugins: Plugins) -> Lowered:
    """Lower for TensorRT with `plugins`; see `qwen3_graphs.lower.lower`."""
    native.check_precision(precision)
    operators = {node.op_type for node in semantic.graph if node.domain == schemas.DOMAIN}
    moe = plugins.moe and "MoE" in operators
    opsets = {"": native.OPSET, native_functions.DOMAIN: 1, schemas.DOMAIN: schemas.VERSION}
    functions = list(native_functions.functions())
    if moe:
        _check_expert_weights(precision)
        functions.extend(expert_functions(native.OPSET, precision.weights.kind))
    experts_of = lower_moe_to_plugin if moe else lower_moe
    if plugins.attention:
        return lower_packed(
            semantic,
            precision,
            {**native.row_handlers(), "Attention": lower_attention_to_plugin, "MoE": experts_of},
            opsets,
            block_size=plugins.block_size,
            functions=[*functions, *attention_functions(native.OPSET)],
        )
    return lower_padded(
        semantic,
        precision,
        {**native.row_handlers(), "Attention": native_attention.lower_attention, "MoE": experts_of},
        opsets,
        capacity=limits.max_context,
        functions=functions,
    )


def _check_expert_weights(precision: Precision) -> None:
    fmt = precision.weights
    weights.check_format(fmt, "tensorrt with the moe plugin", "weights", EXPERTS)
    if fmt.kind == "fp8" and precision.quantized_activations:
        raise LoweringError("tensorrt with the moe plugin: experts take float activations, found quantized ones")


def lower_attention_to_plugin(step: PackedGraph, node: ir.Node, q: ir.Value) -> ir.Value:
    """Write `qwen3::Attention` of q [T, heads * head_dim].

    Raises:
        LoweringError: the kernels have no such head_dim.
    """
    writer, name = step.writer, str(node.outputs[0].name)
    heads, kv_heads, head_dim = (node.attributes[key].as_int() for key in ("num_heads", "kv_num_heads", "head_dim"))
    if head_dim not in HEAD_DIMS:
        expected = " or ".join(map(str, HEAD_DIMS))
        raise LoweringError(f"tensorrt with the attention plugin: head_dim is {expected}, found {head_dim}")
    k, v, cache, *batch = (
        step.values[value]
        for index, value in enumerate(node.inputs)
        if value is not None and index in (1, 2, 7, 8, 9, 10)
    )
    plain = WeightFormat(step.precision.activations)
    norms = [
        weights.add_rows(writer, plain, ((weights.source(value),),), weights.source(value), (head_dim,))
        for value in node.inputs[3:5]
    ]
    tables = [weights.add_vector(writer, value) for value in node.inputs[5:7]]
    out, cache_out = writer.op_with_outputs(
        "Qwen3Attention",
        *(q, k, v, *norms, *tables, cache, *batch),
        names=(name, str(cache.name).replace("kv.", "kv_out.", 1)),
        domain=schemas.DOMAIN,
        num_heads=heads,
        kv_num_heads=kv_heads,
        head_dim=head_dim,
        block_size=step.block_size,
        epsilon=node.attributes["epsilon"].as_float(),
    )
    step.add_cache_outputs(cache_out)
    return out


def lower_moe_to_plugin(step: StepGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    """Write `qwen3::MoE` of x [T, H]; weights as `qwen3_plugins.tensorrt.moe` has them."""
    writer, fmt = step.writer, step.precision.weights
    count, inner, hidden = weights.dims(node.inputs[2])
    router = weights.source(node.inputs[1])
    plain = WeightFormat(step.precision.activations)
    stem = weights.source(node.inputs[4]).removesuffix("down_proj.weight")
    gate_up = _add_experts(step, weights.expert_sources(node.inputs[2:4], count), f"{stem}gate_up", 2 * inner, hidden)
    down = _add_experts(step, weights.expert_sources(node.inputs[4:5], count), f"{stem}down", hidden, inner)
    return writer.op(
        "Qwen3MoE",
        x,
        weights.add_rows(writer, plain, ((router,),), router, (count, hidden)),
        *gate_up,
        *down,
        name=str(node.outputs[0].name),
        domain=schemas.DOMAIN,
        top_k=node.attributes["top_k"].as_int(),
        normalize=node.attributes["normalize"].as_int(),
        weight_format=fmt.kind,
        group_size=fmt.group_size,
    )


def _add_experts(step: StepGraph, sources: Sources, stem: str, outputs: int, inputs: int) -> tuple[ir.Value, ir.Value]:
    """Return codes and scales of a stack of matrices [E, N, K], in layout `experts` or `experts_{activations}`."""
    writer, fmt, count = step.writer, step.precision.weights, len(sources)
    if fmt.is_float:
        slot = TensorSlot(f"{stem}.weight", fmt.onnx_type, (count, outputs, inputs))
        (codes,) = writer.add_weight("experts", fmt, sources, [slot])
        return codes, writer.constant(f"{fmt.kind}.unused_scale", _UNUSED_SCALES[fmt.kind])
    if fmt.kind == "fp8":
        slots = [
            TensorSlot(f"{stem}.codes", "INT8", (count, outputs, inputs)),
            TensorSlot(f"{stem}.scales", "FLOAT", (count, outputs)),
        ]
        codes, scales = writer.add_weight("experts", fmt, sources, slots)
        return codes, scales
    if inputs % fmt.group_size:
        raise LoweringError(
            f"tensorrt with the moe plugin: int4 needs a group_size that divides the inputs, "
            f"found {fmt.group_size} for {inputs} inputs of {stem}"
        )
    slots = [
        TensorSlot(f"{stem}.codes", "INT8", (count, outputs, inputs // 2)),
        TensorSlot(f"{stem}.scales", activation_type(step).name, (count, outputs, inputs // fmt.group_size)),
    ]
    codes, scales = writer.add_weight(f"experts_{step.precision.activations}", fmt, sources, slots)
    return codes, scales
