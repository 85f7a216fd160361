"""Schedules cover every position once, and steps keep the packed interface."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_compile.validate import replay
from qwen3_runtime.step import CacheGeometry, Output


class Recorder:
    """Answers each row with the token and position that a correct cache would hold there."""

    def __init__(self, num_blocks=64, block_size=8):
        self.cache = CacheGeometry(num_blocks=num_blocks, block_size=block_size, bytes_per_token=1)
        self.written = {}
        self.sizes = []

    def run(self, step):
        self.sizes.append(step.input_ids.size)
        rows = []
        for number, (begin, end) in enumerate(zip(step.query_start, step.query_start[1:], strict=False)):
            past = step.context_len[number]
            for offset in range(end - begin):
                position = past + offset
                block = step.block_table[number, position // self.cache.block_size]
                assert block >= 0
                self.written[block, position % self.cache.block_size] = step.input_ids[begin + offset]
                seen = [
                    self.written[step.block_table[number, p // self.cache.block_size], p % self.cache.block_size]
                    for p in range(position + 1)
                ]
                rows.append([position, sum(seen)])
        return Output(np.array(rows, np.float32)[step.logits_rows])


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 50), min_size=1, max_size=4),
    limit=st.integers(1, 40),
    plan=st.sampled_from([replay.whole, replay.chunked, replay.decoding]),
)
def test_every_position_is_reached_once_with_its_own_past(lengths, limit, plan):
    backend = Recorder()
    sequences = [np.arange(1, n + 1) * (number + 1) for number, n in enumerate(lengths)]
    found = {number: [] for number in range(len(lengths))}
    for rows in replay.replay(backend, sequences, [plan(n, limit) for n in lengths]):
        assert rows.start == len(found[rows.sequence])
        found[rows.sequence].extend(rows.values.tolist())
    for number, ids in enumerate(sequences):
        expected = [[position, total] for position, total in enumerate(np.cumsum(ids))]
        assert found[number] == expected
    assert max(backend.sizes) <= limit * len(lengths)


def test_decoding_ends_token_by_token():
    assert replay.decoding(100, 64)[-replay.DECODED_TOKENS :] == [1] * replay.DECODED_TOKENS
    assert sum(replay.decoding(100, 64)) == 100
    assert replay.decoding(3, 64) == [1, 1, 1]


def test_greedy_follows_the_argmax_and_ends_at_a_stop_token():
    class Counter(Recorder):
        def run(self, step):
            super().run(step)
            logits = np.zeros((1, 12), np.float32)
            logits[0, (step.input_ids[-1] + 1) % 10] = 1
            logits[0, 11] = 9  # beyond the tokenizer vocabulary
            return Output(logits)

    backend = Counter()
    tokens = replay.greedy(backend, np.array([1, 2, 3, 4]), 20, vocab_size=11, limit=3, stops=frozenset({9}))
    assert tokens == [5, 6, 7, 8, 9]
    assert backend.sizes == [3, 1, 1, 1, 1, 1]


def test_too_few_cache_blocks_are_an_error_with_numbers():
    with pytest.raises(ValueError, match="offers 2 cache blocks of 8 tokens, these sequences need 3"):
        list(replay.replay(Recorder(num_blocks=2), [np.arange(20)], [[20]]))
