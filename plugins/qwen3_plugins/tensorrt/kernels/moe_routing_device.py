"""Which expert gets which token, as the GPU runs it; `moe.py` describes the launches, their arguments and layouts.

No program waits for another and none uses an atomic, so that equal inputs give equal bytes.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["moe_logits", "moe_select", "moe_sort"]


@triton.jit
def moe_logits(
    x: tl.tensor,
    router: tl.tensor,
    tokens: tl.tensor,
    logits: tl.tensor,
    hidden_size: tl.constexpr,
    experts: tl.constexpr,
    block_t: tl.constexpr,
    block_e: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """Program (tile of tokens, tile of experts): x @ router.T with float32 accumulation."""
    token = tl.program_id(0) * block_t + tl.arange(0, block_t)
    expert = tl.program_id(1) * block_e + tl.arange(0, block_e)
    column = tl.arange(0, block_k)
    x_row = x + token.to(tl.int64)[:, None] * hidden_size + column[None, :]
    router_row = router + expert[None, :] * hidden_size + column[:, None]
    total = tl.zeros((block_t, block_e), tl.float32)
    for k in range(0, hidden_size, block_k):
        inside = k + column < hidden_size
        values = tl.load(x_row + k, mask=(token < tokens)[:, None] & inside[None, :], other=0.0)
        weights = tl.load(router_row + k, mask=(expert < experts)[None, :] & inside[:, None], other=0.0)
        total = tl.dot(values, weights, total)
    kept = (token < tokens)[:, None] & (expert < experts)[None, :]
    tl.store(logits + token.to(tl.int64)[:, None] * experts + expert[None, :], total, mask=kept)


@triton.jit
def moe_select(
    logits: tl.tensor,
    tokens: tl.tensor,
    choice: tl.tensor,
    share: tl.tensor,
    experts: tl.constexpr,
    top_k: tl.constexpr,
    normalize: tl.constexpr,
    block_t: tl.constexpr,
    block_e: tl.constexpr,
    ranks: tl.constexpr,
) -> None:
    """Program (tile of tokens): softmax, and the top_k largest, the lower expert among equals."""
    token = tl.program_id(0) * block_t + tl.arange(0, block_t)
    expert = tl.arange(0, block_e)
    row = tl.minimum(token, tokens - 1).to(tl.int64)
    at = logits + row[:, None] * experts + expert[None, :]
    left = tl.load(at, mask=(expert < experts)[None, :], other=float("-inf"))
    largest = tl.max(left, axis=1)
    whole = tl.sum(tl.exp(left - largest[:, None]), axis=1)

    rank = tl.arange(0, ranks)
    chosen = tl.zeros((block_t, ranks), tl.int32)
    mass = tl.zeros((block_t, ranks), tl.float32)
    for place in tl.static_range(top_k):
        top = tl.max(left, axis=1)
        first = tl.min(tl.where(left == top[:, None], expert[None, :], block_e), axis=1)
        # A row of NaN has no largest: the fault stays visible in the shares and never becomes an address.
        first = tl.minimum(first, experts - 1)
        chosen = tl.where(rank[None, :] == place, first[:, None], chosen)
        mass = tl.where(rank[None, :] == place, tl.exp(top - largest)[:, None], mass)
        left = tl.where(expert[None, :] == first[:, None], float("-inf"), left)
    if normalize:
        whole = tl.sum(mass, axis=1)
    slot = token[:, None] * top_k + rank[None, :]
    kept = (token < tokens)[:, None] & (rank < top_k)[None, :]
    tl.store(choice + slot, chosen, mask=kept)
    tl.store(share + slot, mass / whole[:, None], mask=kept)


@triton.jit
def moe_sort(
    choice: tl.tensor,
    tokens: tl.tensor,
    offsets: tl.tensor,
    order: tl.tensor,
    experts: tl.constexpr,
    top_k: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Program (expert): write its slots, ascending, to where they belong among all.

    Each program counts for itself how many slots go to lower experts: reading the choices twice (4 bytes a slot, from
    cache) is cheaper than a second launch.
    """
    slots = tokens * top_k
    expert = tl.program_id(0)
    lane = tl.arange(0, block)
    lower = tl.zeros((block,), tl.int32)
    for start in range(0, slots, block):
        chosen = tl.load(choice + start + lane, mask=start + lane < slots, other=experts)
        lower += (chosen < expert).to(tl.int32)
    place = tl.sum(lower, axis=0)
    tl.store(offsets + expert, place)
    if expert == experts - 1:
        tl.store(offsets + experts, slots)
    for start in range(0, slots, block):
        chosen = tl.load(choice + start + lane, mask=start + lane < slots, other=experts)
        mine = (chosen == expert).to(tl.int32)
        before = tl.cumsum(mine, axis=0) - mine
        tl.store(order + place + before, start + lane, mask=mine != 0)
        place += tl.sum(mine, axis=0)
