"""Drives an engine's backend over known tokens: the same positions, reached in different ways."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime.packing import Chunk, pack_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from qwen3_runtime.step import Backend

# Odd on purpose: a chunk border must not fall on a multiple of any kernel's tile.
CHUNK_TOKENS = (7, 16, 1, 29, 3)
DECODED_TOKENS = 24


@dataclass(frozen=True)
class Rows:
    """Engine output for positions `start` .. `start + len(values) - 1` of sequence number `sequence`."""

    sequence: int
    start: int
    values: NDArray[np.float32]


def whole(length: int, limit: int) -> list[int]:
    """Prefill in as few steps as `limit` tokens a step allow."""
    return [min(limit, length - at) for at in range(0, length, limit)]


def chunked(length: int, limit: int) -> list[int]:
    """Prefill in uneven chunks, each of which but the first meets a cache that is already filled."""
    sizes: list[int] = []
    left = length
    for size in cycle(CHUNK_TOKENS):
        if left <= 0:
            return sizes
        sizes.append(min(size, left, limit))
        left -= sizes[-1]
    return sizes


def decoding(length: int, limit: int) -> list[int]:
    """Prefill the beginning, then take the last `DECODED_TOKENS` tokens one by one."""
    single = min(DECODED_TOKENS, length - 1)
    return whole(length - single, limit) + [1] * single


def replay(backend: Backend, sequences: Sequence[NDArray[np.int64]], schedules: Sequence[list[int]]) -> Iterator[Rows]:
    """Run sequences side by side, each by its own schedule of chunk sizes, and yield the output of every position.

    All sequences share each step, so that one call here tests a ragged batch. Their tokens a step must stay
    within the engine's limit.
    """
    tables = _block_tables(backend, sequences)
    done = [0] * len(sequences)
    plans = [iter(schedule) for schedule in schedules]
    while True:
        active = [(i, size) for i, plan in enumerate(plans) if (size := next(plan, 0))]
        if not active:
            return
        chunks = [Chunk(sequences[i][done[i] : done[i] + size], done[i], tables[i]) for i, size in active]
        step = pack_step(chunks, rows="all")
        values = backend.run(step).values
        for (i, size), at in zip(active, step.query_start, strict=False):
            yield Rows(i, done[i], values[at : at + size].copy())  # the next step may overwrite them
            done[i] += size


def greedy(
    backend: Backend, prompt: NDArray[np.int64], count: int, vocab_size: int, limit: int, stops: frozenset[int]
) -> list[int]:
    """The engine's own greedy continuation of `prompt`: at most `count` tokens, ending at a token of `stops`."""
    table = _block_tables(backend, [np.concatenate([prompt, np.zeros(count, dtype=np.int64)])])
    tokens: list[int] = []
    at, pending = 0, list(prompt)
    while len(tokens) < count:
        chunk, pending = pending[:limit], pending[limit:]
        logits = backend.run(pack_step([Chunk(np.array(chunk), at, table[0])], rows="last")).values
        at += len(chunk)
        if pending:
            continue
        tokens.append(int(logits[0, :vocab_size].argmax()))
        if tokens[-1] in stops:
            break
        pending = [tokens[-1]]
    return tokens


def _block_tables(backend: Backend, sequences: Sequence[NDArray[np.int64]]) -> NDArray[np.int32]:
    """Consecutive cache blocks for each sequence, int32 [B, M], unused entries -1."""
    size = backend.cache.block_size
    counts = [-(-len(ids) // size) for ids in sequences]
    if sum(counts) > backend.cache.num_blocks:
        wanted, offered = sum(counts), backend.cache.num_blocks
        message = f"the backend offers {offered} cache blocks of {size} tokens, these sequences need {wanted}"
        raise ValueError(message)
    table = np.full((len(counts), max(counts)), -1, dtype=np.int32)
    first = 0
    for row, count in enumerate(counts):
        table[row, :count] = np.arange(first, first + count)
        first += count
    return table
