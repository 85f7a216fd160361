"""Cache blocks are never shared, never lost, and given out lowest first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qwen3_runtime.cache import BlockPool, BlockTable, blocks_for
from qwen3_runtime.step import CacheGeometry


@given(
    num_blocks=st.integers(1, 20),
    block_size=st.integers(1, 17),
    max_context=st.integers(10, 60),
    actions=st.lists(st.tuples(st.integers(0, 2), st.just(0) | st.integers(1, 40)), max_size=60),
)
def test_tables_grow_and_shrink_without_sharing_or_losing_a_block(
    num_blocks: int, block_size: int, max_context: int, actions: list[tuple[int, int]]
) -> None:
    """Each action grows one of three sequences to a number of tokens; 0 tokens releases it."""
    pool = BlockPool(num_blocks)
    geometry = CacheGeometry(num_blocks, block_size, bytes_per_token=1)
    tables = [BlockTable(pool, geometry, max_context) for _ in range(3)]
    for which, tokens in actions:
        table = tables[which]
        before = table.row.copy()
        if tokens == 0:
            table.release()
            assert (table.row == -1).all()
        else:
            needed = -(-tokens // block_size)
            possible = needed - table.count <= pool.available and tokens <= len(table.row) * block_size
            assert table.reserve(tokens) == possible
            assert (table.row[before >= 0] == before[before >= 0]).all()  # what was written stays where it is
            assert not possible or table.count >= needed
        held = [int(block) for each in tables for block in each.row if block >= 0]
        assert len(held) == len(set(held)) == sum(each.count for each in tables)
        assert len(held) + pool.available == num_blocks
        assert set(held) <= set(range(num_blocks))


def test_the_lowest_free_blocks_are_given_out_first() -> None:
    pool = BlockPool(6)
    taken = [pool.take() for _ in range(5)]
    assert taken == [0, 1, 2, 3, 4]
    for block in (3, 1):
        pool.give_back(block)
    assert [pool.take() for _ in range(3)] == [1, 3, 5]


@given(tokens=st.integers(0, 10_000), size=st.integers(1, 300))
def test_blocks_for_is_the_least_number_that_holds_the_tokens(tokens: int, size: int) -> None:
    count = blocks_for(tokens, size)
    assert count * size >= tokens > (count - 1) * size or (tokens == 0 and count == 0)
