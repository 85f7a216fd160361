"""What the plugin `Qwen3Attention` means in standard operators, so that ONNX Runtime on CPU can execute its node.

The function goes into the model under the node's own name. TensorRT must not see it there, for its parser would take
the function instead of the plugin: `qwen3_plugins.tensorrt.importing` removes it.
"""

# Translated to ONNX, not run: onnxscript takes tensors without annotations and attributes with them.
# mypy: disable-error-code="no-untyped-def, misc"
# ruff: noqa: ANN001, ANN201, N802

from typing import Any

from onnxscript import opset23, script
from onnxscript.values import Opset

from qwen3_graphs import schemas

op: Any = opset23  # its own types refuse operators that work on any

FLOAT, INT64 = 1, 7  # of onnx.TensorProto


# Written in the part of Python that onnxscript translates to ONNX; the names are the operator's.
@script(Opset(schemas.DOMAIN, schemas.VERSION), default_opset=op)
def Qwen3Attention(
    q,
    k,
    v,
    q_norm,
    k_norm,
    cos,
    sin,
    kv,
    query_start,
    context_len,
    block_table,
    num_heads: int,
    kv_num_heads: int,
    head_dim: int,
    block_size: int,
    epsilon: float,
):
    """Compute in float32, sequence by sequence; queries pass through the type of q, keys and values through kv's.

    Shapes as in `qwen3_plugins.tensorrt.attention`. The cache is copied, not written in place, and every row belongs to
    a sequence: the kernels' steps may be longer than query_start[B], these may not.
    """
    # Constants: a scalar attribute becomes part of a shape by way of [1].
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    first, second, rest = op.Constant(value_ints=[0]), op.Constant(value_ints=[1]), op.Constant(value_ints=[-1])
    heads = op.Reshape(op.Constant(value_int=num_heads), rest)
    kv_heads = op.Reshape(op.Constant(value_int=kv_num_heads), rest)
    width = op.Reshape(op.Constant(value_int=head_dim), rest)
    block = op.Constant(value_int=block_size)
    starts, past = op.Cast(query_start, to=INT64), op.Cast(context_len, to=INT64)
    table = op.Cast(block_table, to=INT64)

    # Each token's sequence and position.
    token = op.Range(zero, op.Squeeze(op.Shape(q, start=0, end=1)), one)
    batch = op.Size(past)
    ends = op.Slice(starts, second, op.Reshape(batch + one, rest))
    over = op.Cast(op.LessOrEqual(ends, op.Unsqueeze(token, second)), to=INT64)
    owner = op.ReduceSum(over, second, keepdims=0)
    position = op.Gather(past, owner) + token - op.Gather(starts, owner)

    # Normalized and rotated queries and keys.
    kv_shape = op.Concat(rest, kv_heads, width, axis=0)
    queries = op.Cast(op.Reshape(q, op.Concat(rest, heads, width, axis=0)), to=FLOAT)
    keys = op.Cast(op.Reshape(k, kv_shape), to=FLOAT)
    queries = op.RMSNormalization(queries, op.Cast(q_norm, to=FLOAT), axis=-1, epsilon=epsilon)
    keys = op.RMSNormalization(keys, op.Cast(k_norm, to=FLOAT), axis=-1, epsilon=epsilon)
    low, high = op.Split(op.Concat(queries, keys, axis=1), axis=-1, num_outputs=2)
    cosine = op.Unsqueeze(op.Gather(cos, position), second)
    sine = op.Unsqueeze(op.Gather(sin, position), second)
    rotated = op.CastLike(op.Concat(low * cosine - high * sine, high * cosine + low * sine, axis=-1), q)
    queries = op.Cast(op.Slice(rotated, first, heads, second), to=FLOAT)
    keys = op.Slice(rotated, heads, heads + kv_heads, second)

    # The new ones written to (block, key or value, head, slot): the cache is read and copied no more than that.
    entry = op.GatherND(table, op.Concat(op.Unsqueeze(owner, second), op.Unsqueeze(position / block, second), axis=1))
    one_of_each = op.Constant(value_ints=[-1, 1, 1, 1])
    two = op.Constant(value_ints=[2])
    parts = op.Reshape(op.Constant(value_ints=[0, 1]), op.Constant(value_ints=[1, 2, 1, 1]))
    each_head = op.Reshape(op.Range(zero, op.Squeeze(kv_heads), one), op.Constant(value_ints=[1, 1, -1, 1]))
    every = op.Concat(op.Shape(token), two, kv_heads, second, axis=0)
    target = op.Concat(
        op.Expand(op.Reshape(entry, one_of_each), every),
        op.Expand(parts, every),
        op.Expand(each_head, every),
        op.Expand(op.Reshape(op.Mod(position, block), one_of_each), every),
        axis=-1,
    )
    fresh = op.Concat(op.Unsqueeze(keys, second), op.Unsqueeze(op.Reshape(v, kv_shape), second), axis=1)
    kv_out = op.ScatterND(kv, target, op.CastLike(fresh, kv))

    scale = op.Pow(op.Cast(width, to=FLOAT), op.Constant(value_float=-0.5))
    grouped = op.Concat(first, kv_heads, heads / kv_heads, width, axis=0)  # 0 keeps the number of rows
    flat = op.Concat(first, heads * width, axis=0)
    out = op.Cast(op.Slice(q, first, first, first), to=FLOAT)
    for sequence in range(batch):
        begin, end = op.Gather(starts, sequence), op.Gather(starts, sequence + one)
        if op.Greater(end, begin):
            before = op.Gather(past, sequence)
            length = before + end - begin
            place = op.Range(zero, length, one)
            count = op.Reshape((length + block - one) / block, rest)
            entries = op.Slice(op.Gather(table, sequence), first, count, first)
            cached = op.Transpose(op.Gather(kv_out, entries), perm=[1, 2, 0, 3, 4])
            cached = op.Reshape(cached, op.Concat(two, kv_heads, rest, width, axis=0))
            cached = op.Cast(op.Slice(cached, first, op.Reshape(length, rest), two), to=FLOAT)
            cached_keys, values = op.Split(op.Transpose(cached, perm=[1, 0, 2, 3]), axis=1, num_outputs=2)
            rows = op.Slice(queries, op.Reshape(begin, rest), op.Reshape(end, rest), first)
            rows = op.Transpose(op.Reshape(rows, grouped), perm=[1, 2, 0, 3])
            score = op.MatMul(rows, op.Transpose(cached_keys, perm=[0, 1, 3, 2])) * scale
            last = op.Unsqueeze(op.Range(before, length, one), second)
            score = op.Where(op.LessOrEqual(op.Unsqueeze(place, first), last), score, op.Constant(value_float=-1e30))
            mixed = op.Transpose(op.MatMul(op.Softmax(score, axis=-1), values), perm=[2, 0, 1, 3])
            out = op.Concat(out, op.Reshape(mixed, flat), axis=0)
        else:
            out = op.Identity(out)
    out = op.CastLike(out, q)
    return out, kv_out
