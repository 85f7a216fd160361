"""Steps that would read or write where they must not are refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from paged_attention import Step, make_step, run

if TYPE_CHECKING:
    from collections.abc import Callable


def _set(name: str, index: int | tuple, value: int) -> Callable[[Step], None]:
    def change(step: Step) -> None:
        getattr(step, name)[index] = value

    return change


def _share_written_block(step: Step) -> None:
    step.block_table[1, 0] = step.block_table[0, 1]


def _read_written_block(step: Step) -> None:
    step.block_table[0, 0] = step.block_table[1, 0]


def _same_block_twice(step: Step) -> None:
    step.block_table[0, 0] = step.block_table[0, 1]


def _odd_head(step: Step) -> None:
    step.kv = np.zeros((4, 2, 1, 8, 7), np.float16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("query_start", 0, 1), "query_start begins with 1, expected 0"),
        (_set("query_start", 1, 9), "query_start falls from 9 to 5 at sequence 1"),
        (_set("query_start", 2, 4), "query_start ends with 4, expected the number of tokens, 5"),
        (_set("query_start", 1, -3), "query_start falls from 0 to -3 at sequence 0"),
        (_set("context_len", 0, -1), "context_len of sequence 0 is -1, expected at least 0"),
        (_set("context_len", 0, 30), "sequence 0 has 33 tokens, its 3 cache blocks hold 24"),
        (_set("context_len", 1, 2**31 - 1), "sequence 1 has 2147483649 tokens, its 3 cache blocks hold 24"),
        (_set("context_len", 0, 21), "sequence 0 has 24 tokens, the rotary tables have 14 positions"),
        (_set("block_table", (0, 0), -1), "block_table of sequence 0 names block -1, the cache has 6"),
        (_set("block_table", (1, 0), 6), "block_table of sequence 1 names block 6, the cache has 6"),
        (_share_written_block, "would be written twice in one step"),
        (_read_written_block, "is read by sequence 0 and written in the same step"),
        (_same_block_twice, "is read by sequence 0 and written in the same step"),
        (_odd_head, "head_dim is 7, expected an even number"),
    ],
)
def test_a_bad_step_is_refused(change: Callable[[Step], None], reason: str) -> None:
    step = make_step(0, heads=2, kv_heads=1, head_dim=8, block=8, new=[3, 2], context=[11, 0])
    change(step)
    before = step.kv.copy()
    with pytest.raises(ValueError) as caught:
        run(step)
    assert reason in str(caught.value)
    np.testing.assert_array_equal(step.kv, before)


def test_a_full_block_may_be_shared_by_sequences_that_only_read_it() -> None:
    step = make_step(0, heads=2, kv_heads=1, head_dim=8, block=8, new=[3, 2], context=[11, 9])
    step.block_table[1, 0] = step.block_table[0, 0]
    assert np.isfinite(run(step)).all()


def test_a_step_without_tokens_does_nothing() -> None:
    step = make_step(0, heads=2, kv_heads=1, head_dim=8, block=8, new=[0, 0], context=[11, 0])
    before = step.kv.copy()
    assert run(step).shape == (0, 16)
    np.testing.assert_array_equal(step.kv, before)
