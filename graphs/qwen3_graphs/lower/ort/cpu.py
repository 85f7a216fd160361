"""Target `ort` on the CPU provider: operators that ship inside ONNX Runtime.

Everything between matrices is float32. With quantized activations the inputs of integer matrices become int8 in groups
(accuracy level 4): that is the only fast kernel for 8-bit weights, and three to four times as fast as float32 inputs
for 4-bit ones. Weights in fp16 or bf16 are cast to float32 when a session opens: the arithmetic is float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.padded import PaddedGraph, lower_padded
from qwen3_graphs.lower.ort.cpu_attention import lower_attention
from qwen3_graphs.lower.ort.cpu_experts import lower_moe
from qwen3_graphs.lower.ort.formats import CPU
from qwen3_graphs.lower.ort.operators import CONTRIB, accuracy_level, add_nbit_blocks, gather_blocks, matmul_nbits

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lowered import Limits, Lowered, Precision


def lower(semantic: ir.Model, precision: Precision, limits: Limits) -> Lowered:
    """Lower to ONNX Runtime's operators on CPU; see `qwen3_graphs.lower.lower`."""
    del limits  # nothing in these operators depends on the sizes
    weights.check_formats(precision, "ort", ("fp32", "fp16"), CPU)
    handlers = {"Embedding": _lower_embedding, "Linear": _lower_linear, "Attention": lower_attention, "MoE": lower_moe}
    return lower_padded(semantic, precision, handlers, {"": 23, CONTRIB: 1})


def _lower_embedding(step: PaddedGraph, node: ir.Node, ids: ir.Value) -> ir.Value:
    writer, fmt, name = step.writer, step.precision.embedding, str(node.outputs[0].name)
    vocab, hidden = weights.dims(node.inputs[1])
    sources = ((weights.source(node.inputs[1]),),)
    if fmt.is_float:
        return weights.gather(writer, weights.add_rows(writer, fmt, sources, sources[0][0], (vocab, hidden)), ids, name)
    table = add_nbit_blocks(writer, fmt, sources[0][0], (vocab, hidden))
    return gather_blocks(writer, fmt, table, ids, hidden, name)


def _lower_linear(step: PaddedGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    writer, name = step.writer, str(node.outputs[0].name)
    source = weights.source(node.inputs[1])
    fmt = weights.matrix_format(step.precision, source)
    shape = weights.dims(node.inputs[1])
    if fmt.is_float:
        return weights.matmul(writer, fmt, source, shape, x, name)
    blocks = add_nbit_blocks(writer, fmt, source, shape)
    return matmul_nbits(writer, fmt, blocks, shape, x, name, accuracy_level=accuracy_level(step.precision))
