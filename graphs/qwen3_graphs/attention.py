"""Causal grouped-query attention over a paged cache, in eager PyTorch: the reference of `qwen3::Attention`."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Normalize and rotate queries and keys, append keys and values to the cache, attend to each sequence's past.

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

    Raises:
        ValueError: a sequence is longer than the position tables, or than its cache blocks.
    """
    spans = _spans(query_start, context_len, block_table, kv.shape[3], cos.shape[0])
    position = torch.cat([torch.arange(span.past, span.total) for span in spans])
    query = _rotate(_heads(q, q_norm, epsilon), cos[position], sin[position])
    key = _rotate(_heads(k, k_norm, epsilon), cos[position], sin[position])
    value = v.reshape(-1, kv_num_heads, head_dim)

    kv, out = kv.clone(), torch.empty_like(query)
    for span in spans:
        new = slice(span.begin, span.end)
        keys, values = _append(kv, key[new], value[new], span)
        out[new] = _attend(query[new].transpose(0, 1), keys.to(q.dtype), values.to(q.dtype), span.past).transpose(0, 1)
    return out.reshape(-1, num_heads * head_dim), kv


@dataclass(frozen=True)
class _Span:
    """One sequence's new tokens: where they stand in the step, the tokens before them, and its cache blocks."""

    begin: int
    end: int
    past: int
    blocks: Tensor

    @property
    def total(self) -> int:
        return self.past + self.end - self.begin


def _spans(
    query_start: Tensor, context_len: Tensor, block_table: Tensor, block_size: int, positions: int
) -> list[_Span]:
    """List the sequences of a step that have new tokens.

    Raises:
        ValueError: a sequence is longer than the position tables, or than its cache blocks.
    """
    spans = []
    for row, (begin, end, past) in enumerate(
        zip(query_start[:-1].tolist(), query_start[1:].tolist(), context_len.tolist(), strict=True)
    ):
        if begin == end:
            continue
        total = past + end - begin
        if total > positions:
            raise ValueError(f"sequence {row} reaches {total} tokens, but cos and sin have {positions} rows")
        blocks = block_table[row, : -(-total // block_size)].long()
        if len(blocks) * block_size < total or (blocks < 0).any():
            raise ValueError(
                f"sequence {row} reaches {total} tokens, but its row of block_table, {block_table[row].tolist()}, "
                f"has fewer blocks of {block_size}"
            )
        spans.append(_Span(begin, end, past, blocks))
    return spans


def _append(kv: Tensor, key: Tensor, value: Tensor, span: _Span) -> tuple[Tensor, Tensor]:
    """Write keys and values [t, kv_heads, D] to the cache; return all of the sequence's, [kv_heads, total, D]."""
    block_size = kv.shape[3]
    position = torch.arange(span.past, span.total)
    block, slot = span.blocks[position // block_size], position % block_size
    kv[block, 0, :, slot] = key.to(kv.dtype)
    kv[block, 1, :, slot] = value.to(kv.dtype)
    keys, values = kv[span.blocks].permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, : span.total]
    return keys, values


def _heads(x: Tensor, norm: Tensor, epsilon: float) -> Tensor:
    """Split x [T, heads * D] into heads and normalize each -> [T, heads, D]."""
    head_dim = norm.shape[0]
    return functional.rms_norm(x.reshape(len(x), -1, head_dim), (head_dim,), norm.to(x.dtype), epsilon)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of x [T, heads, head_dim] by the angle of its position."""
    low, high = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype)[:, None], sin.to(x.dtype)[:, None]
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def _attend(query: Tensor, keys: Tensor, values: Tensor, past: int) -> Tensor:
    """Attend from query [heads, t, D] to keys and values [kv_heads, past + t, D]: row i sees the first past + i + 1."""
    # Without a past the causal flag spares the mask, which would be quadratic in the prompt.
    length = keys.shape[1]
    mask = None if past == 0 else torch.arange(length) <= torch.arange(past, length)[:, None]
    return functional.scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=mask, is_causal=past == 0, enable_gqa=True
    )[0]
