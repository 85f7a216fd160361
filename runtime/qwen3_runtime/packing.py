"""Packs new tokens of some sequences into a step: the one place that makes the inputs of a packed step from chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Chunk:
    """New tokens of one sequence.

    Attributes:
        ids: int64 [n], n >= 1.
        past: tokens of the sequence that are already in the cache.
        blocks: int32 [m], its cache blocks, in order; unused entries are -1.
    """

    ids: NDArray[np.int64]
    past: int
    blocks: NDArray[np.int32]


def pack_step(chunks: Sequence[Chunk], *, rows: Literal["all", "last"]) -> Step:
    """Make a step of some sequences' chunks.

    Args:
        chunks: at least one, each of another sequence.
        rows: whether the output is wanted of every token, or of the last of each sequence.
    """
    starts = np.cumsum([0, *(len(chunk.ids) for chunk in chunks)]).astype(np.int32)
    table = np.full((len(chunks), max(len(chunk.blocks) for chunk in chunks)), -1, np.int32)
    for row, chunk in zip(table, chunks, strict=True):
        row[: len(chunk.blocks)] = chunk.blocks
    return Step(
        input_ids=np.concatenate([chunk.ids for chunk in chunks]).astype(np.int64),
        query_start=starts,
        context_len=np.array([chunk.past for chunk in chunks], np.int32),
        block_table=table,
        logits_rows=np.arange(starts[-1], dtype=np.int32) if rows == "all" else starts[1:] - 1,
    )
