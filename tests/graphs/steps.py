"""Schedules of packed steps over a paged cache whose blocks are handed out in random order."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class PackedStep:
    """The inputs of the interface, and which token (sequence, position) each row of the output belongs to."""

    input_ids: NDArray[np.int64]
    query_start: NDArray[np.int32]
    context_len: NDArray[np.int32]
    block_table: NDArray[np.int32]
    logits_rows: NDArray[np.int32]
    answers: list[tuple[int, int]]


STEP = tuple(field.name for field in fields(PackedStep) if field.name != "answers")
"""Names of the inputs of a step."""


@dataclass(frozen=True)
class Paging:
    """A permuted pool of cache blocks: row b of `table` holds sequence b's, and some belong to nobody."""

    block_size: int
    num_blocks: int
    table: NDArray[np.int32]

    @staticmethod
    def shuffled(lengths: Sequence[int], block_size: int, rng: np.random.Generator, spare: int = 2) -> Paging:
        counts = [-(-length // block_size) for length in lengths]
        pool = rng.permutation(sum(counts) + spare).astype(np.int32)
        table = np.full((len(lengths), max(counts) + 1), -1, np.int32)
        for row, (count, start) in enumerate(zip(counts, np.cumsum([0, *counts[:-1]]), strict=True)):
            table[row, :count] = pool[start : start + count]
        return Paging(block_size, len(pool), table)


def schedule(
    sequences: Sequence[NDArray[np.int64]], paging: Paging, rng: np.random.Generator, largest_chunk: int
) -> Iterator[PackedStep]:
    """Feed all sequences to their ends: at each step a random subset, in random order, by random chunks.

    A chosen sequence may have no new tokens: it is idle, or at its end.
    """
    done = [0] * len(sequences)
    while any(done[i] < len(tokens) for i, tokens in enumerate(sequences)):
        chosen = rng.permutation(len(sequences))[: rng.integers(1, len(sequences) + 1)].tolist()
        chunks = [min(int(rng.integers(0, largest_chunk + 1)), len(sequences[i]) - done[i]) for i in chosen]
        answers = [(i, done[i] + k) for i, chunk in zip(chosen, chunks, strict=True) for k in range(chunk)]
        if not answers:
            continue
        rows = rng.permutation(len(answers))[: rng.integers(1, len(answers) + 1)]
        yield PackedStep(
            np.concatenate([sequences[i][done[i] : done[i] + chunk] for i, chunk in zip(chosen, chunks, strict=True)]),
            np.cumsum([0, *chunks]).astype(np.int32),
            np.array([done[i] for i in chosen], np.int32),
            paging.table[chosen],
            rows.astype(np.int32),
            [answers[row] for row in rows],
        )
        for i, chunk in zip(chosen, chunks, strict=True):
            done[i] += chunk


def feed(
    run: Callable[[PackedStep], np.ndarray],
    sequences: Sequence[NDArray[np.int64]],
    paging: Paging,
    rng: np.random.Generator,
    largest_chunk: int,
) -> list[tuple[int, int, np.ndarray]]:
    """Run all steps of a schedule; rows as (sequence, position, output)."""
    rows = []
    for step in schedule(sequences, paging, rng, largest_chunk):
        rows += [(*answer, row) for answer, row in zip(step.answers, run(step), strict=True)]
    return rows
