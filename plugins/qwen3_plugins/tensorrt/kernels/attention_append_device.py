"""What attention does before it attends, as the GPU runs it: norm and rotation of heads, and the cache's new rows."""

from __future__ import annotations

import triton
import triton.language as tl

from qwen3_plugins.tensorrt.kernels.attention_device import owner


@triton.jit
def attention_append(
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    q_norm: tl.tensor,
    k_norm: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    kv: tl.tensor,  # noqa: ARG001 - the same memory as kv_out
    query_start: tl.tensor,
    context_len: tl.tensor,
    block_table: tl.tensor,
    batch: tl.tensor,
    table_width: tl.tensor,
    rotated: tl.tensor,
    kv_out: tl.tensor,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    group_tile: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    epsilon: tl.constexpr,
) -> None:
    """Program (token, key head): normalize and rotate its query heads and its key, append key and value."""
    token, head = tl.program_id(0), tl.program_id(1)
    sequence = owner(query_start, token, batch, 1)
    if sequence >= batch:
        return
    position = tl.load(context_len + sequence) + token - tl.load(query_start + sequence)
    half: tl.constexpr = head_dim // 2
    low = tl.arange(0, half)
    cosine, sine = tl.load(cos + position * half + low), tl.load(sin + position * half + low)

    heads = tl.arange(0, group_tile)
    real = (heads < group)[:, None]
    at = ((token * kv_heads + head) * group + heads)[:, None] * head_dim + low[None, :]
    first = tl.load(q + at, mask=real, other=0.0).to(tl.float32)
    second = tl.load(q + at + half, mask=real, other=0.0).to(tl.float32)
    first, second = _normalized_and_rotated(first, second, q_norm, cosine, sine, head_dim, epsilon)
    tl.store(rotated + at, first.to(rotated.dtype.element_ty), mask=real)
    tl.store(rotated + at + half, second.to(rotated.dtype.element_ty), mask=real)

    block = tl.load(block_table + sequence * table_width + position // block_size).to(tl.int64)
    plane: tl.constexpr = kv_heads * block_size * head_dim
    slot = kv_out + block * (2 * plane) + (head * block_size + position % block_size) * head_dim
    source = (token * kv_heads + head) * head_dim
    at = tl.arange(0, 1)[:, None] + low[None, :]
    first = tl.load(k + source + at).to(tl.float32)
    second = tl.load(k + source + at + half).to(tl.float32)
    first, second = _normalized_and_rotated(first, second, k_norm, cosine, sine, head_dim, epsilon)
    tl.store(slot + at, first.to(kv_out.dtype.element_ty))
    tl.store(slot + at + half, second.to(kv_out.dtype.element_ty))
    every = tl.arange(0, head_dim)
    tl.store(slot + plane + every, tl.load(v + source + every).to(kv_out.dtype.element_ty))


@triton.jit
def _normalized_and_rotated(
    first: tl.tensor,
    second: tl.tensor,
    norm: tl.tensor,
    cosine: tl.tensor,
    sine: tl.tensor,
    head_dim: tl.constexpr,
    epsilon: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Halves [heads, head_dim / 2] of heads after RMSNorm and rotate-half RoPE, float32."""
    half: tl.constexpr = head_dim // 2
    low = tl.arange(0, half)
    mean = (tl.sum(first * first, 1) + tl.sum(second * second, 1)) / head_dim
    factor = (1.0 / tl.sqrt(mean + epsilon))[:, None]
    first = first * factor * tl.load(norm + low).to(tl.float32)[None, :]
    second = second * factor * tl.load(norm + half + low).to(tl.float32)[None, :]
    return (
        first * cosine[None, :] - second * sine[None, :],
        second * cosine[None, :] + first * sine[None, :],
    )
