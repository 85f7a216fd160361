"""Splits a packed step into padded calls, for kernels that want [batch, length] and a contiguous cache.

A call is one of three kinds, which attention operators that keep their cache in place are known to compute rightly:

* one new token of each sequence (decode);
* sequences with an empty cache, padded on the right to the longest (first prefill);
* several new tokens of one sequence with a past (a later chunk of a prompt), alone.

The cache of a call is a range of neighbouring blocks. A padded token writes its keys and values behind the real
ones of its block, where they are hidden by the causal mask until the next step overwrites them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from qwen3_runtime.step import CacheGeometry, Step

# Sequences share a first prefill while padding is at most this share of their real tokens, or the call is small:
# there one more pass over the weights costs more than the padding.
_PADDING = 0.25
_SMALL_CALL = 64


@dataclass(frozen=True)
class PaddedCall:
    """One call over B neighbouring blocks, each sequence padded to S tokens.

    Attributes:
        first_block: the block of the first sequence; the others follow.
        input_ids: int64 [B*S].
        query_len: int32 [B], tokens of each sequence that are real.
        context_len: int32 [B], tokens already in the cache.
        logits_rows: int64 [r], rows of the flattened [B*S]; at least one.
        results: intp [r'], where the first r' output rows belong among the step's `logits_rows`; r' is r, or 0 when
            the step wants no row of this call (kernels need one).
    """

    first_block: int
    input_ids: NDArray[np.int64]
    query_len: NDArray[np.int32]
    context_len: NDArray[np.int32]
    logits_rows: NDArray[np.int64]
    results: NDArray[np.intp]


@dataclass(frozen=True)
class _Row:
    """One sequence of a step: its block, its new tokens [start, start + count) and its past."""

    block: int
    start: int
    count: int
    context: int


def check_blocks(step: Step, ends: NDArray[np.int32], cache: CacheGeometry) -> None:
    """Hold a step to a cache with one block a sequence.

    Args:
        step: the packed step.
        ends: int32 [B], tokens of each sequence after the step.
        cache: the cache.

    Raises:
        EngineError: a sequence has more than one block, or outgrows it.
    """
    if step.block_table.shape[1] != 1:
        raise StepFailedError(f"expected one cache block a sequence, found {step.block_table.shape[1]}")
    longest = int(ends.max())
    if longest > cache.block_size:
        raise StepFailedError(f"a sequence grew to {longest} tokens, its cache block holds {cache.block_size}")


def split_step(step: Step, filled: NDArray[np.int32], capacity: int) -> list[PaddedCall]:
    """Split a step; every sequence of it has exactly one block.

    Args:
        step: the packed step.
        filled: int32 [num_blocks], tokens that each block of the cache may hold: a sequence that is not in the
            step but lies between two that decode gets a padded token behind those, so that one call does.
        capacity: tokens of a block.
    """
    rows = [
        _Row(int(block), int(start), int(end) - int(start), int(context))
        for block, start, end, context in zip(
            step.block_table[:, 0], step.query_start[:-1], step.query_start[1:], step.context_len, strict=True
        )
    ]
    rows.sort(key=lambda row: row.block)
    decodes = [row for row in rows if row.count == 1]
    firsts = [row for row in rows if row.count > 1 and row.context == 0]
    chunks = [row for row in rows if row.count > 1 and row.context > 0]
    groups = [*_bridged(decodes, filled, capacity), *_similar(firsts), *([row] for row in chunks)]
    return [_pad(group, step) for group in groups]


def _bridged(decodes: list[_Row], filled: NDArray[np.int32], capacity: int) -> Iterator[list[_Row]]:
    """Group single tokens into runs of neighbouring blocks, filling gaps with tokens that nobody reads."""
    group: list[_Row] = []
    for row in decodes:
        if group:
            gap = range(group[-1].block + 1, row.block)
            if all(filled[block] < capacity for block in gap):
                group.extend(_Row(block, -1, 0, int(filled[block])) for block in gap)
            else:
                yield group
                group = []
        group.append(row)
    if group:
        yield group


def _similar(firsts: list[_Row]) -> Iterator[list[_Row]]:
    """Group first prefills into runs of neighbouring blocks that waste little on padding."""
    group: list[_Row] = []
    for row in firsts:
        if group:
            real = sum(member.count for member in group) + row.count
            padded = (len(group) + 1) * max(row.count, *(member.count for member in group))
            wasteful = padded > max(real * (1 + _PADDING), _SMALL_CALL)
            if wasteful or row.block != group[-1].block + 1:
                yield group
                group = []
        group.append(row)
    if group:
        yield group


def _pad(group: list[_Row], step: Step) -> PaddedCall:
    length = max(row.count for row in group)
    ids = np.zeros((len(group), length), np.int64)
    wanted: list[int] = []
    results: list[int] = []
    for index, row in enumerate(group):
        end = row.start + row.count
        ids[index, : row.count] = step.input_ids[row.start : end] if row.count else 0
        for result in np.flatnonzero((step.logits_rows >= row.start) & (step.logits_rows < end)):
            wanted.append(index * length + int(step.logits_rows[result]) - row.start)
            results.append(int(result))
    return PaddedCall(
        first_block=group[0].block,
        input_ids=ids.reshape(-1),
        query_len=np.array([row.count or 1 for row in group], np.int32),
        context_len=np.array([row.context for row in group], np.int32),
        logits_rows=np.array(wanted or [0], np.int64),
        results=np.array(results, np.intp),
    )
