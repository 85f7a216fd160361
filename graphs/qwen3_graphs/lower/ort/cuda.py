"""Target `ort` on the CUDA provider: operators that ship inside ONNX Runtime's GPU distribution.

Everything between matrices is fp16 or bf16, and so are floating-point matrices, scales of integer ones and the cache:
the kernels take one type for all of them. No kernel quantizes the inputs of integer matrices. Matrices in fp8 are those
of the released checkpoints, blocks of 128 x 128, or have one scale per row; their inputs keep their type as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.core.padded import PaddedGraph, lower_padded
from qwen3_graphs.lower.ort.cuda_attention import lower_attention
from qwen3_graphs.lower.ort.cuda_experts import lower_moe
from qwen3_graphs.lower.ort.formats import CUDA, CUDA_EMBEDDINGS
from qwen3_graphs.lower.ort.operators import CONTRIB, add_nbit_blocks, gather_blocks, matmul_nbits
from qwen3_graphs.lowered import TensorSlot

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.formats import WeightFormat
    from qwen3_graphs.lowered import Lowered, Precision


def lower(semantic: ir.Model, precision: Precision) -> Lowered:
    """Lower to ONNX Runtime's operators on CUDA; see `qwen3_graphs.lower.lower`."""
    _check_precision(precision)
    handlers = {"Embedding": _lower_embedding, "Linear": _lower_linear, "Attention": lower_attention, "MoE": lower_moe}
    return lower_padded(semantic, precision, handlers, {"": 23, CONTRIB: 1})


def _check_precision(precision: Precision) -> None:
    kind = precision.activations
    if precision.kv_cache != kind:
        raise LoweringError(f"target ort on cuda: kv_cache is that of activations, {kind}, found {precision.kv_cache}")
    for field, computed in (("weights", CUDA), ("lm_head", CUDA), ("embedding", CUDA_EMBEDDINGS)):
        weights.check_format(
            getattr(precision, field), "ort on cuda", field, weights.one_float(computed, precision.activations)
        )
    if precision.quantized_activations and any(fmt.is_integer for fmt in (precision.weights, precision.lm_head)):
        raise LoweringError("target ort on cuda: quantization is weight-only, found quantized activations")


def _lower_embedding(step: PaddedGraph, node: ir.Node, ids: ir.Value) -> ir.Value:
    writer, fmt, name = step.writer, step.precision.embedding, str(node.outputs[0].name)
    vocab, hidden = weights.dims(node.inputs[1])
    source = weights.source(node.inputs[1])
    if fmt.is_float:
        table = weights.add_rows(writer, fmt, ((source,),), source, (vocab, hidden))
        return writer.op("Gather", table, ids, name=name, axis=0)
    return gather_blocks(writer, fmt, _add_blocks(step, fmt, source, (vocab, hidden)), ids, hidden, name)


def _lower_linear(step: PaddedGraph, node: ir.Node, x: ir.Value) -> ir.Value:
    writer, name = step.writer, str(node.outputs[0].name)
    source = weights.source(node.inputs[1])
    fmt = weights.matrix_format(step.precision, source)
    shape = weights.dims(node.inputs[1])
    if fmt.kind == "fp8":
        return _matmul_block_fp8(step, fmt, source, shape, x, name)
    if fmt.is_float:
        return writer.op("Gemm", x, weights.add_rows(writer, fmt, ((source,),), source, shape), name=name, transB=1)
    return matmul_nbits(writer, fmt, _add_blocks(step, fmt, source, shape), shape, x, name)


def _add_blocks(step: PaddedGraph, fmt: WeightFormat, source: str, shape: tuple[int, ...]) -> tuple[ir.Value, ...]:
    """Declare an integer matrix; its scales have the activations' type."""
    return add_nbit_blocks(step.writer, fmt, source, shape, step.precision.activations)


def _matmul_block_fp8(
    step: PaddedGraph, fmt: WeightFormat, source: str, shape: tuple[int, ...], x: ir.Value, name: str
) -> ir.Value:
    """Write x times the transpose of a matrix in E4M3, each row of which has scales of its own.

    A block of 128 x 128 is 128 rows with the same scale for these 128 inputs.
    """
    outputs, inputs = shape
    size = fmt.group_size or inputs
    slots = [
        TensorSlot(f"{source}.float8", "FLOAT8E4M3FN", shape),
        TensorSlot(f"{source}.row_scales", "FLOAT", (outputs, -(-inputs // size))),
    ]
    codes, scales = step.writer.add_weight("float8_rows", fmt, ((source,),), slots)
    return step.writer.op("MatMulBlockQuantizedFp8Weight", x, codes, scales, name=name, domain=CONTRIB, block_size=size)
