"""Attention over a paged cache, as the GPU runs it; `attention.py` describes the launches.

Sequences of a step come in two kinds. A *short* one, whose query rows (new tokens times query heads of a key head) fit
into `rows`, is bound by reading the cache: `attention_split` cuts its past into pieces that run side by side, and
`attention_attend` merges them. A longer one is bound by arithmetic: `attention_attend` takes it tile by tile. Each
tile's rows are the tokens *and* the query heads that share a key head, so that a key is read once for all of them.

Softmax is in powers of two: exp(x) = 2 ** (x * log2(e)), the factor being part of `scale`.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOWEST = tl.constexpr(-1.0e30)
"""Below any score: the largest score of no keys. Finite, for the difference of two infinities is not a number."""
_NEVER = tl.constexpr(2**31 - 1)
_SEARCH = tl.constexpr(128)
"""Sequences looked at together when the owner of a token is sought."""


@triton.jit
def attention_split(
    rotated: tl.tensor,
    kv: tl.tensor,
    query_start: tl.tensor,
    context_len: tl.tensor,
    block_table: tl.tensor,
    batch: tl.tensor,
    table_width: tl.tensor,
    partial: tl.tensor,
    lse: tl.tensor,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    scale: tl.constexpr,
    rows: tl.constexpr,
    splits: tl.constexpr,
    programs: tl.constexpr,
    keys: tl.constexpr,
) -> None:
    """Program (split, key head, sequence): a short sequence's attention to one piece of its keys."""
    split, head, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    begin = tl.load(query_start + sequence)
    count = tl.load(query_start + sequence + 1) - begin
    past = tl.load(context_len + sequence)
    total = past + count
    piece = _piece(total, batch, kv_heads, splits, programs, keys)
    if (count == 0) | (count * group > rows) | (split * piece >= total):
        return

    row = tl.arange(0, rows)
    dim = tl.arange(0, head_dim)
    real = row < count * group
    at = _place_of_rows(row, begin, head, kv_heads, group, head_dim)
    query = tl.load(rotated + at[:, None] + dim[None, :], mask=real[:, None], other=0.0)
    sums = tl.zeros((rows, head_dim), tl.float32)
    largest = tl.full((rows,), _LOWEST, tl.float32)
    weight = tl.zeros((rows,), tl.float32)
    sums, largest, weight = _attended(
        sums,
        largest,
        weight,
        query,
        past + row // group,
        split * piece,
        tl.minimum((split + 1) * piece, total),
        block_table + sequence * table_width,
        kv,
        head,
        kv_heads,
        head_dim,
        block_size,
        scale,
        keys,
        masked=True,
    )
    # A row may see none of this piece's keys: those of a later token of its own sequence.
    none = weight == 0
    place = ((sequence * kv_heads + head) * splits + split) * rows + row
    tl.store(lse + place, tl.where(none, _LOWEST, largest + tl.log2(weight)), mask=real)
    mean = tl.where(none[:, None], 0.0, sums / weight[:, None])
    tl.store(partial + place[:, None] * head_dim + dim[None, :], mean, mask=real[:, None])


@triton.jit
def attention_attend(
    rotated: tl.tensor,
    kv: tl.tensor,
    query_start: tl.tensor,
    context_len: tl.tensor,
    block_table: tl.tensor,
    partial: tl.tensor,
    lse: tl.tensor,
    batch: tl.tensor,
    table_width: tl.tensor,
    out: tl.tensor,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    scale: tl.constexpr,
    rows: tl.constexpr,
    splits: tl.constexpr,
    programs: tl.constexpr,
    split_keys: tl.constexpr,
    tile_rows: tl.constexpr,
    keys: tl.constexpr,
    merged_rows: tl.constexpr,
) -> None:
    """Program (tile of tokens, key head): attention of a long sequence's tile, or the merge of a short sequence."""
    tokens: tl.constexpr = tile_rows // group
    # Later tiles see more keys: they go first, so that the last programs to run are quick ones.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    sequence = owner(query_start, tile, batch, tokens)
    if sequence >= batch:
        return
    begin = tl.load(query_start + sequence)
    count = tl.load(query_start + sequence + 1) - begin
    first = (tile - (begin // tokens + sequence)) * tokens
    if first >= count:
        return
    past = tl.load(context_len + sequence)
    total = past + count
    if count * group <= rows:
        used = tl.cdiv(total, _piece(total, batch, kv_heads, splits, programs, split_keys))
        _merge(
            partial,
            lse,
            out,
            sequence,
            head,
            begin,
            count * group,
            used,
            kv_heads,
            group,
            head_dim,
            rows,
            splits,
            merged_rows,
        )
    else:
        row = tl.arange(0, tile_rows)
        dim = tl.arange(0, head_dim)
        token = first + row // group
        real = (row < tokens * group) & (token < count)
        at = _place_of_rows(row, begin + first, head, kv_heads, group, head_dim)
        query = tl.load(rotated + at[:, None] + dim[None, :], mask=real[:, None], other=0.0)
        sums = tl.zeros((tile_rows, head_dim), tl.float32)
        largest = tl.full((tile_rows,), _LOWEST, tl.float32)
        weight = tl.zeros((tile_rows,), tl.float32)
        table = block_table + sequence * table_width
        # Whole tiles of keys that every row sees need no mask; the rest, around the diagonal, does.
        seen = (past + first + 1) // keys * keys
        last = past + token
        sums, largest, weight = _attended(
            sums,
            largest,
            weight,
            query,
            last,
            0,
            seen,
            table,
            kv,
            head,
            kv_heads,
            head_dim,
            block_size,
            scale,
            keys,
            masked=False,
        )
        sums, largest, weight = _attended(
            sums,
            largest,
            weight,
            query,
            last,
            seen,
            tl.minimum(past + first + tokens, total),
            table,
            kv,
            head,
            kv_heads,
            head_dim,
            block_size,
            scale,
            keys,
            masked=True,
        )
        tl.store(
            out + at[:, None] + dim[None, :],
            (sums / weight[:, None]).to(out.dtype.element_ty),
            mask=real[:, None],
        )


@triton.jit
def _attended(
    sums: tl.tensor,
    largest: tl.tensor,
    weight: tl.tensor,
    query: tl.tensor,
    last: tl.tensor,
    begin: tl.tensor,
    end: tl.tensor,
    table: tl.tensor,
    kv: tl.tensor,
    head: tl.tensor,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    scale: tl.constexpr,
    keys: tl.constexpr,
    masked: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Go on with an online softmax over positions begin..end; row r sees positions up to last[r].

    `sums` [rows, head_dim] are the values weighted by 2 ** (score - largest), `weight` the sum of those weights.
    Without `masked`, every row sees every position, and end - begin is a multiple of `keys`.
    """
    dim = tl.arange(0, head_dim)
    plane: tl.constexpr = kv_heads * block_size * head_dim
    for start in range(begin, end, keys):
        position = start + tl.arange(0, keys)
        inside = position < end
        if masked:
            block = tl.load(table + position // block_size, mask=inside, other=0)
        else:
            block = tl.load(table + position // block_size)
        # In 64 bits: a cache may have more than 2**31 elements.
        slot = block.to(tl.int64) * (2 * plane) + (head * block_size + position % block_size) * head_dim
        at = kv + slot[:, None] + dim[None, :]
        if masked:
            key = tl.load(at, mask=inside[:, None], other=0.0)
            value = tl.load(at + plane, mask=inside[:, None], other=0.0)
        else:
            key = tl.load(at)
            value = tl.load(at + plane)
        score = tl.dot(query, tl.trans(key)) * scale
        if masked:
            score = tl.where(inside[None, :] & (position[None, :] <= last[:, None]), score, float("-inf"))
        highest = tl.maximum(largest, tl.max(score, 1))
        fading = tl.exp2(largest - highest)
        share = tl.exp2(score - highest[:, None])
        weight = weight * fading + tl.sum(share, 1)
        sums = tl.dot(share.to(value.dtype), value, sums * fading[:, None])
        largest = highest
    return sums, largest, weight


@triton.jit
def _merge(
    partial: tl.tensor,
    lse: tl.tensor,
    out: tl.tensor,
    sequence: tl.tensor,
    head: tl.tensor,
    begin: tl.tensor,
    real_rows: tl.tensor,
    used: tl.tensor,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    head_dim: tl.constexpr,
    rows: tl.constexpr,
    splits: tl.constexpr,
    merged_rows: tl.constexpr,
) -> None:
    """Add up a short sequence's pieces, each weighted by its share of the softmax's sum, in a fixed order."""
    split = tl.arange(0, splits)[:, None]
    dim = tl.arange(0, head_dim)
    for start in range(0, real_rows, merged_rows):
        row = start + tl.arange(0, merged_rows)
        real = row < real_rows
        place = ((sequence * kv_heads + head) * splits + split) * rows + row[None, :]
        there = (split < used) & real[None, :]
        weight = tl.load(lse + place, mask=there, other=_LOWEST)
        weight = tl.exp2(weight - tl.max(weight, 0)[None, :])
        each = tl.load(partial + place[:, :, None] * head_dim + dim[None, None, :], mask=there[:, :, None], other=0.0)
        merged = tl.sum(each * weight[:, :, None], 0) / tl.sum(weight, 0)[:, None]
        at = _place_of_rows(row, begin, head, kv_heads, group, head_dim)
        tl.store(out + at[:, None] + dim[None, :], merged.to(out.dtype.element_ty), mask=real[:, None])


@triton.jit
def _piece(
    total: tl.tensor,
    batch: tl.tensor,
    kv_heads: tl.constexpr,
    splits: tl.constexpr,
    programs: tl.constexpr,
    keys: tl.constexpr,
) -> tl.tensor:
    """Keys of one split: `splits` pieces at most, fewer where the batch alone gives `programs`, whole tiles each."""
    wanted = tl.minimum(tl.cdiv(programs, batch * kv_heads), splits)
    return tl.cdiv(tl.cdiv(total, wanted), keys) * keys


@triton.jit
def _place_of_rows(
    row: tl.tensor,
    token: tl.tensor,
    head: tl.tensor,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    head_dim: tl.constexpr,
) -> tl.tensor:
    """Where rows (token, query head of the group) begin in [T, heads * head_dim], `token` being the first row's."""
    return ((token + row // group) * (kv_heads * group) + head * group + row % group) * head_dim


@triton.jit
def owner(query_start: tl.tensor, place: tl.tensor, batch: tl.tensor, tokens: tl.constexpr) -> tl.tensor:
    """The sequence that a token or a tile of tokens belongs to; `batch` where none does.

    Sequence s owns the tokens from query_start[s]. Of tiles it owns those from query_start[s] // tokens + s, which
    leaves each sequence enough of them, in a grid of T // tokens + B; those beyond its tokens are idle.
    """
    before = 0
    for start in range(0, batch, _SEARCH):
        following = start + 1 + tl.arange(0, _SEARCH)
        begin = tl.load(query_start + following, mask=following <= batch, other=_NEVER)
        if tokens > 1:
            begin = tl.where(following <= batch, begin // tokens + following, _NEVER)
        before += tl.sum((begin <= place).to(tl.int32), 0)
    return before
