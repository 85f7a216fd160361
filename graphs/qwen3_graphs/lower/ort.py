"""Target `ort`: operators that ship inside ONNX Runtime's CPU provider.

Which padded steps are valid is the business of `GroupQueryAttention` on CPU (measured with 1.31): sequences
without a past, ragged, in one call; or one new token of each sequence; or, with a past and several new tokens,
one sequence alone. Padding counts as tokens here: it attends and is written to the cache behind the real ones,
where the causal mask hides it until the next step overwrites it.

Integer matrices use int8 activations in groups (accuracy level 4): on CPU that is the only fast kernel for
8-bit weights, and three to four times as fast as float32 activations for 4-bit ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower import weights
from qwen3_graphs.lower.padded import PaddedStep, lower_padded
from qwen3_graphs.lowered import TensorSlot

if TYPE_CHECKING:
    from qwen3_graphs.lower.writer import Attribute, Sources
    from qwen3_graphs.lowered import Limits, Lowered, Precision, WeightFormat

CONTRIB = "com.microsoft"
ACCURACY_LEVEL = 4


def lower(semantic: ir.Model, precision: Precision, limits: Limits) -> Lowered:
    """Lower to ONNX Runtime's own operators; see `qwen3_graphs.lower.lower`."""
    del limits  # nothing in these operators depends on the sizes
    weights.check_formats(precision, "ort", ("fp32", "fp16"))
    handlers = {"Embedding": _embedding, "Linear": _linear, "Attention": _attention, "MoE": _moe}
    return lower_padded(semantic, precision, handlers, {"": 23, CONTRIB: 1})


def _embedding(step: PaddedStep, node: ir.Node, ids: ir.Value) -> ir.Value:
    writer, fmt, name = step.writer, step.precision.embedding, str(node.outputs[0].name)
    vocab, hidden = weights.dims(node.inputs[1])
    sources = ((weights.source(node.inputs[1]),),)
    if not weights.is_quantized(fmt):
        return weights.gathered(writer, weights.rows(writer, fmt, sources, sources[0][0], (vocab, hidden)), ids, name)
    codes, scales = _nbit_blocks(step, fmt, sources[0][0], vocab, hidden)
    # The codes are those of a MatMulNBits, so that a tied head has the same bytes; only the scales' shape differs.
    column = writer.op("Unsqueeze", scales, writer.integers(2), name=f"{scales.name}.column")
    blocks = writer.op(
        "GatherBlockQuantized",
        codes,
        ids,
        column,
        name=f"{name}.blocks",
        domain=CONTRIB,
        bits=weights.BITS[fmt.kind],
        block_size=fmt.group_size,
        gather_axis=0,
        quantize_axis=2,
    )
    padded = weights.groups(fmt, hidden) * fmt.group_size
    flat = writer.op("Reshape", blocks, writer.integers(-1, padded), name=f"{name}.rows")
    if padded == hidden:
        return flat
    return writer.op("Slice", flat, writer.integers(0), writer.integers(hidden), writer.integers(1), name=name)


def _linear(step: PaddedStep, node: ir.Node, x: ir.Value) -> ir.Value:
    writer, name = step.writer, str(node.outputs[0].name)
    source = weights.source(node.inputs[1])
    fmt = weights.matrix_format(step.precision, source)
    outputs, inputs = weights.dims(node.inputs[1])
    if not weights.is_quantized(fmt):
        matrix = weights.widened(writer, weights.rows(writer, fmt, ((source,),), source, (outputs, inputs)))
        return writer.op("Gemm", x, matrix, name=name, transB=1)
    codes, scales = _nbit_blocks(step, fmt, source, outputs, inputs)
    return writer.op(
        "MatMulNBits",
        x,
        codes,
        scales,
        name=name,
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=weights.BITS[fmt.kind],
        block_size=fmt.group_size,
        accuracy_level=ACCURACY_LEVEL,
    )


def _nbit_blocks(step: PaddedStep, fmt: WeightFormat, source: str, outputs: int, inputs: int) -> tuple[ir.Value, ...]:
    """Return codes uint8 [N, groups, bytes of a group] and scales float32 [N, groups]."""
    count, size = weights.groups(fmt, inputs), fmt.group_size * weights.BITS[fmt.kind] // 8
    slots = [
        TensorSlot(f"{source}.codes", "UINT8", (outputs, count, size)),
        TensorSlot(f"{source}.scales", "FLOAT", (outputs, count)),
    ]
    return step.writer.weight("nbit_blocks", fmt, ((source,),), slots)


def _attention(step: PaddedStep, node: ir.Node, q: ir.Value) -> ir.Value:
    writer, name = step.writer, str(node.outputs[0].name)
    heads, kv_heads, head_dim = (node.attributes[key].as_int() for key in ("num_heads", "kv_num_heads", "head_dim"))
    k, v = (step.values[value] for value in node.inputs[1:3] if value is not None)
    epsilon = node.attributes["epsilon"].as_float()
    query = _normalised(step, q, weights.vector(writer, node.inputs[3]), heads, head_dim, epsilon, f"{name}.q")
    key = _normalised(step, k, weights.vector(writer, node.inputs[4]), kv_heads, head_dim, epsilon, f"{name}.k")
    layer = weights.source(node.inputs[7])
    past = step.cache(layer, kv_heads, head_dim)
    last, total = _lengths(step)
    attended, *present = writer.op_with_outputs(
        "GroupQueryAttention",
        query,
        key,
        writer.op("Reshape", v, step.rows_of(kv_heads * head_dim), name=f"{name}.v"),
        *past,
        last,
        total,
        weights.vector(writer, node.inputs[5]),
        weights.vector(writer, node.inputs[6]),
        names=(f"{name}.batched", *step.cache_out_names(layer)),
        domain=CONTRIB,
        num_heads=heads,
        kv_num_heads=kv_heads,
        do_rotary=1,
    )
    step.cache_out(*present)
    return writer.op("Reshape", attended, writer.integers(-1, heads * head_dim), name=name)


def _normalised(
    step: PaddedStep, x: ir.Value, weight: ir.Value, heads: int, head_dim: int, epsilon: float, name: str
) -> ir.Value:
    """Return the RMSNorm of each head of x [B*S, heads * head_dim], as [B, S, heads * head_dim]."""
    writer = step.writer
    split = writer.op("Reshape", x, writer.integers(-1, heads, head_dim), name=f"{name}.heads")
    normalised = writer.op("RMSNormalization", split, weight, name=f"{name}.norm", axis=-1, epsilon=epsilon)
    return writer.op("Reshape", normalised, step.rows_of(heads * head_dim), name=name)


def _lengths(step: PaddedStep) -> tuple[ir.Value, ir.Value]:
    """Return the operator's `seqlens_k` int32 [B] and `total_sequence_length` int32 scalar.

    Padding is counted in. The operator places new tokens at seqlens_k + 1 - S, which is the end of the past only
    if all S of them count; and every row is then finite, where uncounted rows would be uninitialised memory.
    """
    writer = step.writer

    def make_last() -> ir.Value:
        length = writer.op("Cast", step.length, name="step.length.int32", to=ir.DataType.INT32)
        before = writer.op(
            "Sub", length, writer.constant("int32.1", np.array([1], np.int32)), name="step.length_less_1"
        )
        return writer.op("Add", step.context_len, before, name="step.last_key")

    def make_total() -> ir.Value:
        most = writer.op("ReduceMax", last, name="step.most", keepdims=0)
        return writer.op("Add", most, writer.constant("int32.scalar.1", np.array(1, np.int32)), name="step.total")

    last = step.once("last", make_last)
    return last, step.once("total", make_total)


def _moe(step: PaddedStep, node: ir.Node, x: ir.Value) -> ir.Value:
    writer, fmt, name = step.writer, step.precision.weights, str(node.outputs[0].name)
    top_k, normalize = node.attributes["top_k"].as_int(), node.attributes["normalize"].as_int()
    router = weights.vector(writer, node.inputs[1])
    logits = writer.op("Gemm", x, router, name=f"{name}.router", transB=1)
    experts, width, hidden = weights.dims(node.inputs[2])
    upward = weights.expert_sources(node.inputs[2:4], experts)
    downward = weights.expert_sources(node.inputs[4:5], experts)
    prefix = weights.source(node.inputs[4]).removesuffix("down_proj.weight")
    attributes: dict[str, Attribute] = {
        "k": top_k,
        "normalize_routing_weights": normalize,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": 1.0,
        "activation_beta": 0.0,
    }
    if not weights.is_quantized(fmt):
        kind = weights.FLOAT_TYPES[fmt.kind]
        up_slot = TensorSlot(f"{prefix}gate_up.weight", kind, (experts, 2 * width, hidden))
        (up,) = writer.weight("interleaved_rows", fmt, upward, [up_slot])
        down = weights.rows(writer, fmt, downward, f"{prefix}down.weight", (experts, hidden, width))
        up, down = weights.widened(writer, up), weights.widened(writer, down)
        return writer.op("MoE", x, logits, up, None, down, name=name, domain=CONTRIB, **attributes)
    up_codes, up_scales = _expert_codes(
        step, fmt, "interleaved_nbit_rows", upward, f"{prefix}gate_up", 2 * width, hidden
    )
    down_codes, down_scales = _expert_codes(step, fmt, "nbit_rows", downward, f"{prefix}down", hidden, width)
    # QMoE's own softmax is over the chosen experts only: without renormalisation it must be given the shares.
    shares = None if normalize else writer.op("Softmax", logits, name=f"{name}.shares", axis=-1)
    inputs = [x, logits, up_codes, up_scales, None, down_codes, down_scales]
    return writer.op(
        "QMoE",
        *(inputs if shares is None else [*inputs, *[None] * 7, shares]),
        name=name,
        domain=CONTRIB,
        expert_weight_bits=weights.BITS[fmt.kind],
        block_size=fmt.group_size,
        accuracy_level=ACCURACY_LEVEL,
        **attributes,
    )


def _expert_codes(
    step: PaddedStep, fmt: WeightFormat, layout: str, sources: Sources, prefix: str, outputs: int, inputs: int
) -> tuple[ir.Value, ...]:
    """Return the experts' codes uint8 [E, N, K * bits / 8] and scales float32 [E, N, groups]."""
    if inputs % fmt.group_size:
        raise LoweringError(
            f"target ort: {fmt.kind} experts need a group_size that divides their inputs, "
            f"found {fmt.group_size} for {inputs} inputs of {prefix}"
        )
    slots = [
        TensorSlot(f"{prefix}.codes", "UINT8", (len(sources), outputs, inputs * weights.BITS[fmt.kind] // 8)),
        TensorSlot(f"{prefix}.scales", "FLOAT", (len(sources), outputs, inputs // fmt.group_size)),
    ]
    return step.writer.weight(layout, fmt, sources, slots)
