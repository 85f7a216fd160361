"""Splits a packed step into padded calls, for kernels that want [batch, length] and a contiguous cache.

A call is one of three kinds, which attention operators that keep their cache in place are known to compute rightly:

* one new token of each sequence (decode);
* sequences with an empty cache, padded on the right to the longest (first prefill);
* several new tokens of one sequence with a past (a later chunk of a prompt), alone.

The cache of a call is a range of neighboring blocks. A padded token writes its keys and values behind the real
ones of its block, where they are hidden by the causal mask until the next step overwrites them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.backends.filling import fill
from qwen3_runtime.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from qwen3_graphs.interface import StepInput
    from qwen3_runtime.step import CacheGeometry, Step

# Sequences share a first prefill while padding is at most this share of their real tokens, or the call is small:
# there one more pass over the weights costs more than the padding.
_PADDING = 0.25
_SMALL_CALL = 64


@dataclass(frozen=True)
class PaddedCall:
    """One call over B neighboring blocks, each sequence padded to S tokens.

    Attributes:
        first_block: the block of the first sequence; the others follow.
        batch: B.
        length: S.
        inputs: what the graph is given besides the cache; what is of one token is [B, S, ...].
        results: intp [r'], where the first r' output rows belong among the step's `logits_rows`; r' is r, or 0 when
            the step wants no row of this call (kernels need one).
    """

    first_block: int
    batch: int
    length: int
    inputs: dict[str, NDArray[Any]]
    results: NDArray[np.intp]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The input `logits_rows`."""
        return self.inputs["logits_rows"]

    def asking(self, rows: NDArray[np.int64]) -> PaddedCall:
        """The same call, for other rows."""
        return replace(self, inputs={**self.inputs, "logits_rows": rows})


@dataclass(frozen=True)
class _Row:
    """One sequence of a step: its block, its new tokens [start, start + count) and its past."""

    block: int
    start: int
    count: int
    context: int


@dataclass(frozen=True)
class Group:
    """The sequences of a call.

    Attributes:
        rows: in the order of their blocks.
        step: that they are of.
    """

    rows: tuple[_Row, ...]
    step: Step

    @property
    def length(self) -> int:
        """S: new tokens of the longest."""
        return max(row.count for row in self.rows)

    def wanted(self) -> tuple[list[int], list[int]]:
        """Rows of the flattened [B*S] that the step wants, and the place of each among its `logits_rows`."""
        rows, places = [], []
        for index, row in enumerate(self.rows):
            inside = (self.step.logits_rows >= row.start) & (self.step.logits_rows < row.start + row.count)
            for place in np.flatnonzero(inside):
                rows.append(index * self.length + int(self.step.logits_rows[place]) - row.start)
                places.append(int(place))
        return rows, places


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
        raise StepFailedError(f"expected one cache block per sequence, found {step.block_table.shape[1]}")
    longest = int(ends.max())
    if longest > cache.block_size:
        raise StepFailedError(f"a sequence grew to {longest} tokens, its cache block holds {cache.block_size}")


def split_step(step: Step, filled: NDArray[np.int32], capacity: int, inputs: Iterable[StepInput]) -> list[PaddedCall]:
    """Split a step; every sequence of it has exactly one block.

    Args:
        step: the packed step.
        filled: int32 [num_blocks], tokens that each block of the cache may hold: a sequence that is not in the
            step but lies between two that decode gets a padded token behind those, so that one call does.
        capacity: tokens of a block.
        inputs: those that are filled anew in every call.
    """
    fed = tuple(inputs)
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
    return [_pad(Group(tuple(group), step), fed) for group in groups]


def _bridged(decodes: list[_Row], filled: NDArray[np.int32], capacity: int) -> Iterator[list[_Row]]:
    """Group single tokens into runs of neighboring blocks, filling gaps with tokens that nobody reads."""
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
    """Group first prefills into runs of neighboring blocks that waste little on padding."""
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


def _pad(group: Group, inputs: tuple[StepInput, ...]) -> PaddedCall:
    return PaddedCall(
        first_block=group.rows[0].block,
        batch=len(group.rows),
        length=group.length,
        inputs=fill(inputs, PADDED, group),
        results=np.array(group.wanted()[1], np.intp),
    )


def _padded_ids(group: Group) -> NDArray[np.int64]:
    ids = np.zeros((len(group.rows), group.length), np.int64)
    for index, row in enumerate(group.rows):
        ids[index, : row.count] = group.step.input_ids[row.start : row.start + row.count] if row.count else 0
    return ids


PADDED: dict[str, Callable[[Group], Any]] = {
    "input_ids": _padded_ids,
    "query_len": lambda group: [row.count or 1 for row in group.rows],
    "context_len": lambda group: [row.context for row in group.rows],
    "logits_rows": lambda group: group.wanted()[0] or [0],
}
"""What fills each input of a padded call."""
