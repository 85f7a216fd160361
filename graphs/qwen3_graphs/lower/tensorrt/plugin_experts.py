"""What the plugin `Qwen3MoE` means in standard operators; see `plugin_attention` for why.

`Qwen3MoE` calls `expert_matrix`, one expert's matrix in float32, of which a model gets the definition for its weights.
"""

# Translated to ONNX, not run: onnxscript takes tensors without annotations and attributes with them.
# mypy: disable-error-code="no-untyped-def, misc"
# ruff: noqa: ANN001, ANN201, N802, RET504

from typing import Any

import ml_dtypes
import numpy as np
from onnx import numpy_helper
from onnxscript import opset23, script
from onnxscript.values import Opset

from qwen3_graphs import schemas

op: Any = opset23  # its own types refuse operators that work on any

FLOAT, INT32, BOOL = 1, 6, 9  # of onnx.TensorProto
_QWEN3 = Opset(schemas.DOMAIN, schemas.VERSION)

_BYTES = np.arange(256, dtype=np.uint8)
_E4M3 = numpy_helper.from_array(_BYTES.view(ml_dtypes.float8_e4m3fn).astype(np.float32), "e4m3")


@script(_QWEN3, default_opset=op)
def expert_matrix(codes, scales, expert, group_size: int):  # noqa: ARG001 - all three take the same
    """Of fp16 or bf16 codes [E, N, K]."""
    return op.Cast(op.Gather(codes, expert), to=FLOAT)


@script(_QWEN3, default_opset=op)
def expert_matrix_fp8(codes, scales, expert, group_size: int):  # noqa: ARG001
    """Of E4M3 codes, as int8 [E, N, K], and scales [E, N]; ONNX counts a negative index from the end of the table."""
    values = op.Gather(op.Constant(value=_E4M3), op.Cast(op.Gather(codes, expert), to=INT32))
    return values * op.Unsqueeze(op.Gather(scales, expert), op.Constant(value_ints=[1]))


@script(_QWEN3, default_opset=op)
def expert_matrix_int4(codes, scales, expert, group_size: int):
    """Of pairs of two's complement codes, int8 [E, N, K / 2], the even one in the low half, scales [E, N, groups]."""
    sixteen, last = op.Cast(op.Constant(value_int=16), to=INT32), op.Constant(value_ints=[-1])
    pair = op.Cast(op.Gather(codes, expert), to=INT32)
    low = op.Mod(pair, sixteen)
    high = (pair - low) / sixteen
    low = op.Where(op.Less(low, op.Cast(op.Constant(value_int=8), to=INT32)), low, low - sixteen)
    both = op.Concat(op.Unsqueeze(low, last), op.Unsqueeze(high, last), axis=-1)
    scale = op.Cast(op.Gather(scales, expert), to=FLOAT)
    group = op.Reshape(op.Constant(value_int=group_size), last)
    values = op.Cast(op.Reshape(both, op.Concat(op.Shape(scale), group, axis=0)), to=FLOAT)
    rows = op.Concat(op.Shape(scale, start=0, end=1), last, axis=0)
    return op.Reshape(values * op.Unsqueeze(scale, last), rows)


@script(_QWEN3, default_opset=op)
def Qwen3MoE(
    x,
    router,
    gate_up,
    gate_up_scales,
    down,
    down_scales,
    top_k: int,
    normalize: int,
    weight_format: str,  # noqa: ARG001 - says which `expert_matrix` the model has
    group_size: int,
):
    """Compute in float32, expert by expert, those that some token chose. Shapes as in `qwen3_plugins.tensorrt.moe`."""
    first, second, rest = op.Constant(value_ints=[0]), op.Constant(value_ints=[1]), op.Constant(value_ints=[-1])
    wide = op.Cast(x, to=FLOAT)
    logits = op.MatMul(wide, op.Transpose(op.Cast(router, to=FLOAT), perm=[1, 0]))
    chosen = op.Reshape(op.Constant(value_int=top_k), rest)
    share, choice = op.TopK(op.Softmax(logits, axis=-1), chosen, axis=-1)
    total = op.ReduceSum(share, rest, keepdims=1)
    scaled = op.Cast(op.Constant(value_int=normalize), to=BOOL)
    share = share / op.Where(scaled, total, op.Constant(value_float=1.0))
    used, _, _, _ = op.Unique(op.Reshape(choice, rest), sorted=1)
    out = op.ConstantOfShape(op.Shape(wide))
    for turn in range(op.Size(used)):
        expert = op.Gather(used, turn)
        place = op.Transpose(op.NonZero(op.Equal(choice, expert)), perm=[1, 0])
        row = op.Slice(place, first, second, second)
        matrix = expert_matrix(gate_up, gate_up_scales, expert, group_size=group_size)
        both = op.MatMul(op.GatherND(wide, row), op.Transpose(matrix, perm=[1, 0]))
        gate, up = op.Split(both, axis=-1, num_outputs=2)
        matrix = expert_matrix(down, down_scales, expert, group_size=group_size)
        answer = op.MatMul(gate * op.Sigmoid(gate) * up, op.Transpose(matrix, perm=[1, 0]))
        share_of_row = op.Unsqueeze(op.GatherND(share, place), second)
        out = op.ScatterND(out, row, answer * share_of_row, reduction="add")
    out = op.CastLike(out, x)
    return out
