"""Products with a matrix in one of TensorRT's formats.

A matrix with scales is a constant in its storage type behind a `DequantizeLinear`, [K, N]: TensorRT folds the two into
the product. Where its inputs are quantized too (fp8 and int8, with `quantized_activations`), they pass through a
`QuantizeLinear` and a `DequantizeLinear` with one scale for the whole tensor, which calibration found: TensorRT then
multiplies in eight bits. Four-bit matrices are always multiplied with activations as they are.

Layouts (see `qwen3_compile.pack.layouts`), for a matrix [N, K] or a stack of them, in groups of g inputs:

| layout | initializers |
|---|---|
| `columns` | the matrix in a floating-point type, [K, N] |
| `scaled_columns` | codes fp8 or int8 [K, N], scales float32 [N], or [] where an fp8 matrix has one |
| `scaled_columns_fp16`, `scaled_columns_bf16` | codes int4 [K, N], scales of that type [K/g, N] |

Scales are above zero, which TensorRT demands. It also demands that scales of int4 have the type of the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat, onnx_type
from qwen3_graphs.lower.core import weights
from qwen3_graphs.lower.tensorrt.functions import compute
from qwen3_graphs.lowered import TensorSlot

if TYPE_CHECKING:
    from qwen3_graphs.lower.core.step import StepGraph
    from qwen3_graphs.lower.core.writer import Attribute, Sources

WITH_QUANTIZED_ACTIVATIONS = ("fp8", "int8")  # kinds of matrices whose activations can be quantized


def matmul(
    step: StepGraph,
    fmt: WeightFormat,
    name: str,
    sources: Sources,
    shape: tuple[int, ...],
    x: ir.Value,
    result: str,
) -> ir.Value:
    """Return x [..., K] times the transpose of a matrix, or of each matrix of a stack.

    Args:
        step: receives the nodes.
        fmt: how the matrix is stored.
        name: of the matrix, or of the stack; the names of its scales are derived from it.
        sources: the checkpoint's tensors.
        shape: [N, K], or [E, N, K] of a stack.
        x: [T, K], or [1, T, K] or [E, T, K] for a stack, in the type of the activations.
        result: name of the result.

    Raises:
        LoweringError: the format cannot hold a matrix of this shape.
    """
    x = _prescale(step, name, shape[-1], x)
    if fmt.is_float:
        return _matmul_float(step, fmt, name, sources, shape, x, result)
    if fmt.kind in WITH_QUANTIZED_ACTIVATIONS and step.precision.quantized_activations:
        x = _quantize_input(step, ir.DataType[fmt.onnx_type], name, x, result)
    return compute(step, "MatMul", x, _dequantize(step, fmt, name, sources, shape, result), name=result)


def cast_to_float32(step: StepGraph, x: ir.Value) -> ir.Value:
    """Return x in float32."""
    return step.writer.op("Cast", x, name=f"{x.name}.wide", to=ir.DataType.FLOAT)


def cast_to_activations(step: StepGraph, x: ir.Value, name: str) -> ir.Value:
    """Return x in the type of the activations."""
    return step.writer.op("Cast", x, name=name, to=activation_type(step))


def activation_type(step: StepGraph) -> ir.DataType:
    """Return the type of hidden states."""
    return ir.DataType[onnx_type(step.precision.activations)]


def _matmul_float(
    step: StepGraph,
    fmt: WeightFormat,
    name: str,
    sources: Sources,
    shape: tuple[int, ...],
    x: ir.Value,
    result: str,
) -> ir.Value:
    if len(shape) == 2:  # as the checkpoint has it, so that a tied head shares the embedding's bytes
        return compute(step, "Gemm", x, weights.add_rows(step.writer, fmt, sources, name, shape), name=result)
    *leading, outputs, inputs = shape
    slot = TensorSlot(f"{name}.columns", fmt.onnx_type, (*leading, inputs, outputs))
    (matrix,) = step.writer.add_weight("columns", fmt, sources, [slot])
    return compute(step, "MatMul", x, matrix, name=result)


def _prescale(step: StepGraph, name: str, inputs: int, x: ir.Value) -> ir.Value:
    """Return x as a matrix wants it: AWQ divides columns of a matrix by what it multiplies the inputs with."""
    if name not in step.precision.pre_scaled:
        return x
    source = name.removesuffix("weight") + "pre_quant_scale"
    fmt = WeightFormat(step.precision.activations)
    scale = weights.add_rows(step.writer, fmt, ((source,),), source, (inputs,))
    return compute(step, "Mul", x, scale, name=f"{name}.scaled_input")


def _quantize_input(step: StepGraph, dtype: ir.DataType, name: str, x: ir.Value, result: str) -> ir.Value:
    """Return x rounded to eight bits with one scale, that of the matrix's calibrated input."""
    writer, source = step.writer, name.removesuffix("weight") + "input_scale"
    slot = TensorSlot(source, "FLOAT", ())
    (scale,) = writer.add_weight("rows", weights.FLOAT32, ((source,),), [slot])
    to_codes: dict[str, Attribute] = {"output_dtype": dtype}
    back: dict[str, Attribute] = {"output_dtype": activation_type(step)}
    codes = compute(step, "QuantizeLinear", x, scale, name=f"{result}.input_codes", attributes=to_codes)
    return compute(step, "DequantizeLinear", codes, scale, name=f"{result}.input", attributes=back)


def _dequantize(
    step: StepGraph, fmt: WeightFormat, name: str, sources: Sources, shape: tuple[int, ...], result: str
) -> ir.Value:
    """Return a matrix [K, N], or a stack [E, K, N], in the type of the activations."""
    *leading, outputs, inputs = shape
    codes_slot = TensorSlot(f"{name}.columns", fmt.onnx_type, (*leading, inputs, outputs))
    layout, scale_type = "scaled_columns", "FLOAT"
    if fmt.granularity == "per-group":
        _check_four_bits(fmt, name, outputs, inputs)
        layout, scale_type = f"{layout}_{step.precision.activations}", activation_type(step).name
        scale_shape: tuple[int, ...] = (*leading, inputs // fmt.group_size, outputs)
        where = {"axis": len(leading), "block_size": fmt.group_size}
    elif fmt.granularity == "per-tensor":
        scale_shape, where = tuple(leading), {"axis": 0} if leading else {}
    elif leading:
        # One scale for each matrix and output is what a block as long as the inputs has.
        scale_shape, where = (*leading, 1, outputs), {"axis": len(leading), "block_size": inputs}
    else:
        scale_shape, where = (outputs,), {"axis": 1}
    slots = [codes_slot, TensorSlot(f"{name}.column_scales", scale_type, scale_shape)]
    codes, scales = step.writer.add_weight(layout, fmt, sources, slots)
    blocks: dict[str, Attribute] = {"output_dtype": activation_type(step), **where}
    return compute(step, "DequantizeLinear", codes, scales, name=f"{result}.weight", attributes=blocks)


def _check_four_bits(fmt: WeightFormat, name: str, outputs: int, inputs: int) -> None:
    if outputs % 2:
        raise LoweringError(f"target tensorrt: int4 needs an even number of outputs, found {outputs} in {name}")
    if inputs % fmt.group_size:
        raise LoweringError(
            f"target tensorrt: int4 needs a group_size that divides the inputs, "
            f"found {fmt.group_size} for {inputs} inputs of {name}"
        )
