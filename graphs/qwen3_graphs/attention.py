"""Causal grouped-query attention over a paged cache, in eager PyTorch: the reference of `qwen3::Attention`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def paged_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_norm: Tensor,
    k_norm: Tensor,
    cos: Tensor,
    sin: Tensor,
    kv: Tensor,
    query_start: Tensor,
    context_len: Tensor,
    block_table: Tensor,
    num_heads: int,
    kv_num_heads: int,
    head_dim: int,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """Normalise and rotate queries and keys, append keys and values to the cache, attend to each sequence's past.

    Args:
        q: [T, num_heads * head_dim].
        k: [T, kv_num_heads * head_dim].
        v: [T, kv_num_heads * head_dim].
        q_norm: [head_dim], RMSNorm weight of every query head.
        k_norm: [head_dim], RMSNorm weight of every key head.
        cos: float32 [P, head_dim / 2] by position.
        sin: float32 [P, head_dim / 2] by position.
        kv: [blocks, 2, kv_num_heads, block, head_dim], keys then values.
        query_start: int32 [B+1].
        context_len: int32 [B].
        block_table: int32 [B, M]; entries beyond a sequence's last block are never read.
        num_heads: query heads.
        kv_num_heads: key and value heads; each serves num_heads / kv_num_heads query heads.
        head_dim: width of a head.
        epsilon: of the two norms.

    Returns:
        The attended values [T, num_heads * head_dim] and the cache with this step's keys and values.
    """
    starts, context, block_size = query_start.tolist(), context_len.tolist(), kv.shape[3]
    spans = [
        (begin, end, past, past + end - begin)
        for begin, end, past in zip(starts, starts[1:], context, strict=False)
        if end > begin
    ]
    position = torch.cat([torch.arange(past, total) for _, _, past, total in spans])
    query = _rotate(_heads(q, head_dim, q_norm, epsilon), cos[position], sin[position])
    key = _rotate(_heads(k, head_dim, k_norm, epsilon), cos[position], sin[position])
    value = v.unflatten(-1, (kv_num_heads, head_dim))

    kv, out = kv.clone(), torch.empty_like(query)
    for table, (begin, end, past, total) in zip(_tables(block_table, starts), spans, strict=True):
        new = torch.arange(past, total)
        block, slot = table[new // block_size], new % block_size
        kv[block, 0, :, slot] = key[begin:end].to(kv.dtype)
        kv[block, 1, :, slot] = value[begin:end].to(kv.dtype)
        pages = kv[table[: -(-total // block_size)]].to(q.dtype)
        keys, values = pages.permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, :total]
        out[begin:end] = _attend(query[begin:end].transpose(0, 1), keys, values, past).transpose(0, 1)
    return out.reshape(-1, num_heads * head_dim), kv


def _heads(x: Tensor, head_dim: int, norm: Tensor, epsilon: float) -> Tensor:
    return functional.rms_norm(x.unflatten(-1, (-1, head_dim)), (head_dim,), norm.to(x.dtype), epsilon)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of x [T, heads, head_dim] by the angle of its position."""
    low, high = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype)[:, None], sin.to(x.dtype)[:, None]
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def _tables(block_table: Tensor, starts: list[int]) -> list[Tensor]:
    """Return the block tables of the sequences that have new tokens."""
    return [row.long() for row, begin, end in zip(block_table, starts, starts[1:], strict=False) if end > begin]


def _attend(query: Tensor, keys: Tensor, values: Tensor, past: int) -> Tensor:
    """Attend from query [heads, t, D] to keys and values [kv_heads, past + t, D]: row i sees the first past + i + 1."""
    # Without a past the causal flag spares the mask, which would be quadratic in the prompt.
    length = keys.shape[1]
    mask = None if past == 0 else torch.arange(length) <= torch.arange(past, length)[:, None]
    return functional.scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=mask, is_causal=past == 0, enable_gqa=True
    )[0]
