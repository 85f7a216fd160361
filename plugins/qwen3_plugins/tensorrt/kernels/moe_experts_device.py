"""The experts' matrices and the tokens sent to them, as the GPU runs it; `moe.py` describes launches and layouts.

A program works on block_m slots of one expert and finds out itself which: it counts the experts' tiles from `offsets`
and returns when there are fewer than its number. With few tokens only the chosen experts' bytes are read, once.

Weights are multiplied as the activations' type with float32 accumulation. FP8 codes (E4M3, no infinities) and four-bit
codes become that type exactly (`narrow_device.py`), and scales are applied to float32 sums, so that a dequantized
weight is never rounded.
"""

from __future__ import annotations

import triton
import triton.language as tl

from qwen3_plugins.tensorrt.kernels.narrow_device import float8_values, int4_values

__all__ = ["moe_combine", "moe_down", "moe_gate_up"]


@triton.jit
def moe_gate_up(
    x: tl.tensor,
    offsets: tl.tensor,
    order: tl.tensor,
    gate_up: tl.tensor,
    gate_up_scales: tl.tensor,
    hidden: tl.tensor,
    experts: tl.constexpr,
    expert_lanes: tl.constexpr,
    top_k: tl.constexpr,
    hidden_size: tl.constexpr,
    inner_size: tl.constexpr,
    weight_format: tl.constexpr,
    group_size: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """Program (block_n / 2 inner units, tile of slots): silu(x @ gate.T) * (x @ up.T)."""
    expert, first, last = _tile(offsets, tl.program_id(1), experts, expert_lanes, block_m)
    if expert >= experts:
        return
    place = first + tl.arange(0, block_m)
    kept = place < last
    token = tl.load(order + place, mask=kept, other=0) // top_k
    # Gate and up alternate, so that one product serves both and their sums lie beside each other.
    half: tl.constexpr = block_n // 2
    lane = tl.arange(0, block_n)
    unit = tl.program_id(0) * half + lane // 2
    both = _product(
        x + token * hidden_size,
        kept,
        gate_up,
        gate_up_scales,
        expert.to(tl.int64) * (2 * inner_size),
        (lane % 2) * inner_size + unit,
        unit < inner_size,
        hidden_size,
        weight_format,
        group_size,
        block_m,
        block_n,
        block_k,
    )
    gate, up = tl.split(tl.reshape(both, (block_m, half, 2)))
    answer = gate * tl.sigmoid(gate) * up
    column = tl.program_id(0) * half + tl.arange(0, half)
    at = hidden + place[:, None] * inner_size + column[None, :]
    tl.store(at, answer.to(hidden.dtype.element_ty), mask=kept[:, None] & (column < inner_size)[None, :])


@triton.jit
def moe_down(
    hidden: tl.tensor,
    offsets: tl.tensor,
    order: tl.tensor,
    down: tl.tensor,
    down_scales: tl.tensor,
    answers: tl.tensor,
    experts: tl.constexpr,
    expert_lanes: tl.constexpr,
    hidden_size: tl.constexpr,
    inner_size: tl.constexpr,
    weight_format: tl.constexpr,
    group_size: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """Program (block_n outputs, tile of slots): hidden @ down.T, each row put back into its slot."""
    expert, first, last = _tile(offsets, tl.program_id(1), experts, expert_lanes, block_m)
    if expert >= experts:
        return
    place = first + tl.arange(0, block_m)
    kept = place < last
    column = tl.program_id(0) * block_n + tl.arange(0, block_n)
    total = _product(
        hidden + place * inner_size,
        kept,
        down,
        down_scales,
        expert.to(tl.int64) * hidden_size,
        column,
        column < hidden_size,
        inner_size,
        weight_format,
        group_size,
        block_m,
        block_n,
        block_k,
    )
    slot = tl.load(order + place, mask=kept, other=0).to(tl.int64)
    at = answers + slot[:, None] * hidden_size + column[None, :]
    tl.store(at, total.to(answers.dtype.element_ty), mask=kept[:, None] & (column < hidden_size)[None, :])


@triton.jit
def moe_combine(
    answers: tl.tensor,
    share: tl.tensor,
    y: tl.tensor,
    top_k: tl.constexpr,
    hidden_size: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Program (token, tile of outputs): the answers times their shares, in float32 and in the order of their rank."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < hidden_size
    total = tl.zeros((block,), tl.float32)
    for rank in tl.static_range(top_k):
        slot = token * top_k + rank
        answer = tl.load(answers + slot * hidden_size + column, mask=inside, other=0.0).to(tl.float32)
        total += tl.load(share + slot) * answer
    tl.store(y + token * hidden_size + column, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _tile(
    offsets: tl.tensor,
    tile: tl.tensor,
    experts: tl.constexpr,
    expert_lanes: tl.constexpr,
    block_m: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The expert of a tile and where in the order it begins and its expert ends; past the last tile no such expert."""
    expert = tl.arange(0, expert_lanes)
    begin = tl.load(offsets + expert, mask=expert < experts, other=0)
    end = tl.load(offsets + expert + 1, mask=expert < experts, other=0)
    tiles = (end - begin + block_m - 1) // block_m
    owner = tl.sum((tl.cumsum(tiles, axis=0) <= tile).to(tl.int32), axis=0)
    earlier = tl.sum(tl.where(expert < owner, tiles, 0), axis=0)
    first = tl.sum(tl.where(expert == owner, begin, 0), axis=0) + (tile - earlier) * block_m
    last = tl.sum(tl.where(expert == owner, end, 0), axis=0)
    return owner, first, last


@triton.jit
def _product(
    x_row: tl.tensor,
    x_kept: tl.tensor,
    codes: tl.tensor,
    scales: tl.tensor,
    first_row: tl.tensor,
    row: tl.tensor,
    row_kept: tl.tensor,
    inputs: tl.constexpr,
    weight_format: tl.constexpr,
    group_size: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> tl.tensor:
    """The vectors at the pointers x_row times some rows of a matrix [.., inputs]: float32 [block_m, block_n]."""
    column = tl.arange(0, block_k)
    total = tl.zeros((block_m, block_n), tl.float32)
    if weight_format == "int4":
        tl.static_assert(group_size % block_k == 0 and inputs % group_size == 0, "four-bit matrices have whole groups")
        width: tl.constexpr = inputs // 2
        groups: tl.constexpr = inputs // group_size
        code_row = codes + first_row * width + row[None, :] * width + tl.arange(0, block_k // 2)[:, None]
        scale_row = scales + first_row * groups + row * groups
        # Scales are too narrow for asynchronous copies: each is fetched one step before its use.
        scale = tl.load(scale_row, mask=row_kept, other=0.0)
        for k in range(0, inputs, block_k):
            ahead = tl.minimum(k + block_k, inputs - block_k) // group_size
            next_scale = tl.load(scale_row + ahead, mask=row_kept, other=0.0)
            values = tl.load(x_row[:, None] + k + column[None, :], mask=x_kept[:, None], other=0.0)
            even, odd = tl.split(tl.reshape(values, (block_m, block_k // 2, 2)))
            code = tl.load(code_row + k // 2, mask=row_kept[None, :], other=0)
            low, high = int4_values(code, values.dtype)
            part = tl.dot(odd, high, tl.dot(even, low))
            total += part * scale.to(tl.float32)[None, :]
            scale = next_scale
    else:
        code_row = codes + first_row * inputs + row[None, :] * inputs + column[:, None]
        for k in range(0, inputs, block_k):
            inside = k + column < inputs
            values = tl.load(x_row[:, None] + k + column[None, :], mask=x_kept[:, None] & inside[None, :], other=0.0)
            code = tl.load(code_row + k, mask=row_kept[None, :] & inside[:, None], other=0)
            if weight_format == "fp8":
                code = float8_values(code, values.dtype)
            total = tl.dot(values, code, total)
        if weight_format == "fp8":
            total *= tl.load(scales + first_row + row, mask=row_kept, other=0.0)[None, :]
    return total
