"""Padded calls compute what the packed step means, and each is of a kind that attention operators take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_graphs.interface import PADDED
from qwen3_runtime.backends.padding import split_step
from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from qwen3_runtime.backends.padding import PaddedCall


class PaddedCache:
    """Executes padded calls on token ids: what a row sees is everything in its block up to its own place."""

    def __init__(self, blocks: int, capacity: int) -> None:
        self.tokens = np.full((blocks, capacity), -1, np.int64)
        self.filled = np.zeros(blocks, np.int32)

    def run(self, step: Step) -> list[tuple[int, ...]]:
        results: list[tuple[int, ...] | None] = [None] * len(step.logits_rows)
        for call in split_step(step, self.filled, self.tokens.shape[1], PADDED):
            seen = self._call(call)
            for place, row in zip(call.results, call.rows, strict=False):
                assert results[place] is None
                results[place] = seen[row]
        self.filled[step.block_table[:, 0]] = step.context_len + np.diff(step.query_start)
        assert None not in results
        return [result for result in results if result is not None]

    def _call(self, call: PaddedCall) -> dict[int, tuple[int, ...]]:
        batch, length = call.batch, call.length
        input_ids, query_len, context_len = (call.inputs[name] for name in ("input_ids", "query_len", "context_len"))
        assert input_ids.shape == (batch, length)
        assert len(call.rows) >= 1
        decode = length == 1
        first = (context_len == 0).all()
        assert decode or first or batch == 1, "a kind of call that GroupQueryAttention does not compute"
        assert (query_len >= 1).all()
        assert (query_len <= length).all()
        seen = {}
        for index in range(batch):
            block = self.tokens[call.first_block + index]
            start = int(context_len[index])
            assert start + length <= len(block), "a write past the end of the block"
            block[start : start + length] = input_ids[index]
            for offset in range(length):
                seen[index * length + offset] = tuple(block[: start + offset + 1].tolist())
        return seen


@settings(deadline=None)
@given(data=st.data())
def test_rows_see_exactly_their_own_sequence(data: st.DataObject) -> None:
    """Random schedules of decode tokens, first prefills and chunks, on blocks in random order."""
    capacity = 40
    count = data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    sequences = [rng.integers(1, 1000, rng.integers(1, capacity + 1)) for _ in range(count)]
    blocks = rng.permutation(count + 2)[:count]
    cache = PaddedCache(count + 2, capacity)
    done = [0] * count
    while waiting := [i for i in range(count) if done[i] < len(sequences[i])]:
        chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)].tolist()
        sizes = [1 if rng.random() < 0.5 else int(rng.integers(1, len(sequences[i]) - done[i] + 1)) for i in chosen]
        owner = [(i, done[i] + k) for i, size in zip(chosen, sizes, strict=True) for k in range(size)]
        rows = rng.permutation(len(owner))[: rng.integers(0, len(owner) + 1)]
        step = Step(
            input_ids=np.array([sequences[i][place] for i, place in owner], np.int64),
            query_start=np.cumsum([0, *sizes]).astype(np.int32),
            context_len=np.array([done[i] for i in chosen], np.int32),
            block_table=blocks[chosen].astype(np.int32)[:, None],
            logits_rows=rows.astype(np.int32),
        )
        seen = cache.run(step)
        for row, found in zip(rows, seen, strict=True):
            sequence, place = owner[row]
            assert found == tuple(sequences[sequence][: place + 1].tolist())
        for i, size in zip(chosen, sizes, strict=True):
            done[i] += size


def make_step(*sequences: tuple[int, int, int]) -> Step:
    """A step of (block, context, new tokens), the last row of each wanted."""
    counts = [new for _, _, new in sequences]
    ends = np.cumsum([0, *counts]).astype(np.int32)
    return Step(
        input_ids=np.arange(ends[-1], dtype=np.int64),
        query_start=ends,
        context_len=np.array([context for _, context, _ in sequences], np.int32),
        block_table=np.array([[block] for block, _, _ in sequences], np.int32),
        logits_rows=ends[1:] - 1,
    )


def shapes(step: Step, filled: list[int], capacity: int = 100) -> list[tuple[int, int, int]]:
    calls = split_step(step, np.array(filled, np.int32), capacity, PADDED)
    return [(call.first_block, call.batch, call.length) for call in calls]


@pytest.mark.parametrize(
    ("step", "filled", "expected"),
    [
        # neighbors that decode are one call, whatever their order
        (make_step((1, 9, 1), (0, 5, 1), (2, 7, 1)), [5, 9, 7, 0], [(0, 3, 1)]),
        # one that sits between them but has no token is padded over: weights are read once
        (make_step((0, 5, 1), (2, 7, 1)), [5, 30, 7], [(0, 3, 1)]),
        # unless there is no place behind its tokens
        (make_step((0, 5, 1), (2, 7, 1)), [5, 100, 7], [(0, 1, 1), (2, 1, 1)]),
        # prompts of similar length share a call, others do not
        (make_step((0, 0, 200), (1, 0, 190)), [0, 0], [(0, 2, 200)]),
        (make_step((0, 0, 200), (1, 0, 20)), [0, 0], [(0, 1, 200), (1, 1, 20)]),
        # a chunk with a past runs alone
        (make_step((0, 5, 1), (1, 16, 16), (2, 16, 16)), [5, 16, 16], [(0, 1, 1), (1, 1, 16), (2, 1, 16)]),
    ],
)
def test_calls_are_as_few_as_the_operators_allow(
    step: Step, filled: list[int], expected: list[tuple[int, int, int]]
) -> None:
    assert shapes(step, filled, capacity=300 if max(step.context_len) == 0 else 100) == expected
