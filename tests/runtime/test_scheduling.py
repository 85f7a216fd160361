"""What a sequence says does not depend on chunks, batches, block sizes, preemption or its neighbors.

Covers: batching, preemption
Reference: scripted backends
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedBackend, make_engine

from qwen3_runtime import EngineError, Request, RequestError, Sampling
from qwen3_runtime.scheduler import share_fairly

WORDS = 40
EOS = 39


def guess(tokens: list[int]) -> np.ndarray:
    """Logits that depend on every token of the sequence and on their order."""
    seed = zlib.crc32(np.array(tokens, np.int64).tobytes())
    return np.random.default_rng(seed).normal(0, 2, WORDS).astype(np.float32)


def open_engine(backend: ScriptedBackend, **limits: Any):
    sizes = {"vocab_size": WORDS, "tokenizer_vocab_size": WORDS, "task": "completion", "eos": (EOS,)}
    return make_engine(backend, None, None, **{**sizes, **limits})


def backend(num_blocks: int = 1, block_size: int = 256) -> ScriptedBackend:
    return ScriptedBackend(logits=guess, num_blocks=num_blocks, block_size=block_size, vocab=WORDS)


def alone(request: Request) -> tuple[int, ...]:
    """The output of a request by itself, its prompt in one piece, its cache in one block."""
    return open_engine(backend(), max_context=256, max_sequences=1).generate([request])[0].tokens


def without_end(request: Request) -> tuple[int, ...]:
    """The same, of a model whose end-of-text token is like any other."""
    return open_engine(backend(), max_context=256, max_sequences=1, eos=()).generate([request])[0].tokens


def make_request(seed: int, prompt: int, output: int) -> Request:
    ids = np.random.default_rng(seed).integers(0, EOS, prompt).tolist()
    return Request(prompt=ids, max_tokens=output, sampling=Sampling(temperature=0.9, top_p=0.95), seed=seed)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_outputs_are_the_same_alone_and_in_any_company(data: st.DataObject) -> None:
    block_size = data.draw(st.integers(1, 24), "block_size")
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 30)), min_size=1, max_size=7), "sizes")
    least = max(-(-(prompt + output) // block_size) for prompt, output in sizes)
    blocks = data.draw(st.integers(least, 3 * least), "blocks")
    requests = [make_request(seed, *size) for seed, size in enumerate(sizes)]
    stage = backend(blocks, block_size)
    engine = open_engine(
        stage,
        max_context=80,
        max_sequences=data.draw(st.integers(1, 5), "max_sequences"),
        max_step_tokens=data.draw(st.integers(1, 40), "max_step_tokens"),
    )
    done = engine.generate(requests)
    for request, completion in zip(requests, done, strict=True):
        assert completion.tokens == alone(request)
        ended = completion.tokens[-1] == EOS
        assert completion.finish_reason == ("stop" if ended else "length")
        assert EOS not in completion.tokens[:-1]
    assert engine._scheduler.pool.available == blocks
    assert not engine._scheduler.in_flight
    limit = engine.manifest.io.max_step_tokens
    assert all(len(step.input_ids) <= limit for step in stage.steps)


def test_decode_tokens_and_prompt_chunks_share_steps() -> None:
    """A long prompt that arrives while another sequence decodes does not stop it."""
    stage = backend(2)
    engine = open_engine(stage, max_sequences=2, max_step_tokens=8, max_context=256)
    first = engine.submit(make_request(3, 4, 40))
    second = engine.submit(make_request(4, 100, 3))
    second.result()
    assert first.result().tokens == alone(make_request(3, 4, 40))
    mixed = [step for step in stage.steps if sorted(np.diff(step.query_start)) == [1, 7]]
    assert len(mixed) >= 10


def test_decode_tokens_go_before_the_chunks_of_a_prompt_that_came_earlier() -> None:
    stage = backend(2)
    engine = open_engine(
        stage, max_sequences=2, max_step_tokens=8, max_context=256, eos=(), clock=lambda: len(stage.steps)
    )
    long, short = engine.generate([make_request(4, 200, 1), make_request(3, 1, 9)])
    assert len(short.tokens) == 9
    assert short.timings.total < (long.timings.time_to_first_token or 0)


@given(pending=st.lists(st.integers(2, 300), max_size=12), room=st.integers(0, 200))
def test_prompts_share_a_step_fairly(pending: list[int], room: int) -> None:
    tokens = len(pending) + room
    counts = share_fairly(pending, tokens)
    equal = tokens // max(1, len(pending))
    assert sum(counts) == min(tokens, sum(pending))
    for index, (count, need) in enumerate(zip(counts, pending, strict=True)):
        assert 0 <= count <= need
        assert count == need or need > equal
        earlier = [each for each in range(index) if pending[each] > equal]
        assert count == 0 or all(counts[each] == pending[each] for each in earlier) or need <= equal
    longest = [index for index, need in enumerate(pending) if need > equal]
    assert not longest or counts[longest[0]] >= equal


def test_a_short_prompt_never_waits_for_all_of_a_long_one() -> None:
    """Sixteen tokens behind two prompts of 200 each, 48 tokens a step: an equal share is all that they need."""
    stage = backend(4)
    engine = open_engine(
        stage, max_sequences=3, max_step_tokens=48, max_context=256, eos=(), clock=lambda: len(stage.steps)
    )
    first, second, short = engine.generate([make_request(1, 200, 2), make_request(2, 200, 2), make_request(3, 16, 2)])
    assert short.timings.time_to_first_token == 1
    assert first.timings.time_to_first_token < second.timings.time_to_first_token < 10


def test_a_preempted_sequence_comes_back_before_those_that_came_later() -> None:
    """Six blocks of 4: two sequences of 8 tokens grow until the second has to yield; a third waits meanwhile."""
    stage = backend(6, 4)
    engine = open_engine(stage, max_sequences=2, max_context=24, eos=(), clock=lambda: len(stage.steps))
    requests = [make_request(1, 8, 12), make_request(2, 8, 12), make_request(3, 8, 12)]
    done = engine.generate(requests)
    assert [one.tokens for one in done] == [without_end(request) for request in requests]
    assert done[1].timings.total < (done[2].timings.time_to_first_token or 0)


def test_the_sequence_that_was_admitted_last_is_the_one_that_yields() -> None:
    """Though it is the shorter one, and the one that asks for a block is the other."""
    stage = backend(6, 4)
    engine = open_engine(stage, max_sequences=2, max_context=24, eos=(), clock=lambda: len(stage.steps))
    first, second = engine.generate([make_request(1, 9, 15), make_request(2, 5, 15)])
    assert len(first.tokens) == len(second.tokens) == 15
    assert first.timings.total == 15  # a token a step, from the first step on
    assert second.timings.total > 15


def test_a_batch_holds_no_more_sequences_than_a_step_has_tokens() -> None:
    """Every running sequence advances in every step: the third starts when one of the first two has ended."""
    stage = backend(8, 16)
    engine = open_engine(
        stage, max_sequences=4, max_step_tokens=2, max_context=32, eos=(), clock=lambda: len(stage.steps)
    )
    done = engine.generate([make_request(seed, 1, 6) for seed in range(4)])
    assert [one.timings.queued for one in done] == [0, 0, 6, 6]
    assert [one.timings.total for one in done] == [6, 6, 12, 12]


def test_a_step_asks_for_as_many_of_the_largest_logits_as_any_of_its_sequences_wants() -> None:
    stage = backend(3)
    engine = open_engine(stage, max_sequences=3, max_context=256, eos=())
    engine.generate([Request(prompt=[1], max_tokens=2, top_k=top_k) for top_k in (5, 20, 1)])
    assert [step.top_k for step in stage.steps] == [21, 21]


def test_sequences_beyond_the_cache_wait_and_are_served_in_order() -> None:
    stage = backend(num_blocks=1)
    engine = open_engine(stage, max_sequences=4, max_context=256)
    requests = [make_request(seed, 5, 4) for seed in range(3)]
    done = engine.generate(requests)
    assert [one.tokens for one in done] == [alone(request) for request in requests]
    assert all(len(step.context_len) == 1 for step in stage.steps)
    first_steps = [tuple(step.input_ids.tolist()) for step in stage.steps if step.context_len[0] == 0]
    assert first_steps == [request.prompt for request in requests]


def test_a_sequence_that_outgrows_the_whole_cache_ends_with_context() -> None:
    """Two of them: the one admitted last yields, and later runs to the same end."""
    engine = open_engine(backend(num_blocks=6, block_size=4), max_sequences=2, max_context=200)
    done = engine.generate([make_request(seed, 6, 150) for seed in (21, 22)])
    for seed, completion in zip((21, 22), done, strict=True):
        expected = alone(make_request(seed, 6, 150))
        assert completion.tokens == expected[: len(completion.tokens)]
        full = len(completion.tokens) == 24 - 6
        assert completion.finish_reason == ("context" if full else "stop")
    assert engine._scheduler.pool.available == 6


def test_the_end_of_the_context_ends_a_sequence() -> None:
    request = make_request(5, 10, 1000)
    engine = open_engine(backend(block_size=64), max_context=24, eos=())
    done = engine.generate([request])[0]
    assert (done.finish_reason, len(done.tokens)) == ("context", 14)


@pytest.mark.parametrize(("prompt", "message"), [(24, "24 tokens, but a sequence may hold 24"), (0, "empty")])
def test_a_prompt_that_cannot_fit_is_refused_with_the_numbers(prompt: int, message: str) -> None:
    engine = open_engine(backend(), max_context=24)
    with pytest.raises(RequestError, match=message):
        engine.submit(make_request(1, prompt, 5))
    assert not engine._scheduler.in_flight


def test_a_failing_backend_fails_every_request_and_leaves_a_usable_engine() -> None:
    stage = backend(4)
    engine = open_engine(stage, max_sequences=2, max_context=256)

    def explode() -> None:
        if len(stage.steps) == 3:
            raise EngineError("out of order")

    stage.before_step = explode
    handles = [engine.submit(make_request(seed, 5, 30)) for seed in range(3)]
    for handle in handles:
        with pytest.raises(EngineError, match="out of order"):
            handle.result()
    assert engine._scheduler.pool.available == 4
    stage.before_step = lambda: None
    assert engine.generate([make_request(9, 5, 6)])[0].tokens == alone(make_request(9, 5, 6))


def test_ctrl_c_in_a_step_ends_what_runs_and_leaves_a_usable_engine() -> None:
    stage = backend(2)
    engine = open_engine(stage, max_context=256)

    def interrupt() -> None:
        raise KeyboardInterrupt

    handle = engine.submit(make_request(1, 5, 30))
    stage.before_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        handle.result()
    with pytest.raises(EngineError, match="interrupted"):
        handle.result()
    stage.before_step = lambda: None
    assert engine.generate([make_request(9, 5, 6)])[0].tokens == alone(make_request(9, 5, 6))
    assert engine._scheduler.pool.available == 2


def test_logits_that_were_never_trained_are_not_sampled() -> None:
    def tempting(tokens: list[int]) -> np.ndarray:
        row = guess(tokens)
        row[30:] = 1000
        return row

    stage = ScriptedBackend(logits=tempting, vocab=WORDS, live=30)
    engine = open_engine(stage, tokenizer_vocab_size=30, max_context=256)
    assert max(engine.generate([make_request(1, 5, 60)])[0].tokens) < 30
