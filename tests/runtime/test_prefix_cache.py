"""What was computed for one request serves others that begin alike, within a salt, and never changes a token.

Covers: shared blocks, waiting for who computes them, eviction, preemption, salts, accounting
Reference: scripted backends that read tokens back through the block tables; the same requests without a prefix cache
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scheduling import EOS, backend, open_engine

from qwen3_runtime import Completion, Engine, Request

if TYPE_CHECKING:
    from scripted import ScriptedBackend

BLOCK = 16


def words(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, EOS, count).tolist()


def computed(stage: ScriptedBackend) -> int:
    """Tokens that the backend was given."""
    return sum(len(step.input_ids) for step in stage.steps)


def ask(engine: Engine, prompt: list[int], new: int = 1, salt: str | None = None) -> Completion:
    return engine.complete(prompt, max_tokens=new, temperature=0, cache_salt=salt)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_outputs_are_those_of_an_engine_without_a_prefix_cache(data: st.DataObject) -> None:
    """Requests that begin alike in many ways, in a cache that is too small for all of them, one group after another."""
    block_size = data.draw(st.integers(1, 9), "block_size")
    drawn = st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(1, 9), st.integers(1, 12))
    groups = data.draw(st.lists(st.lists(drawn, min_size=1, max_size=6), min_size=1, max_size=3), "groups")
    blocks = data.draw(st.integers(-(-80 // block_size), 4 * -(-80 // block_size)), "blocks")
    limits = {
        "max_context": 80,
        "max_sequences": data.draw(st.integers(1, 5), "max_sequences"),
        "max_step_tokens": data.draw(st.integers(5, 40), "max_step_tokens"),
        "eos": (),
    }
    shared, plain = (
        open_engine(backend(blocks, block_size), prefix_cache=enabled, **limits) for enabled in (True, False)
    )
    for group in groups:
        requests = [
            Request(prompt=words(start, length)[:length] + words(99 + own, own), max_tokens=new, seed=index)
            for index, (start, length, own, new) in enumerate(group)
        ]
        found, expected = shared.generate(requests), plain.generate(requests)
        assert [one.tokens for one in found] == [one.tokens for one in expected]
        assert all(one.usage.cached_tokens % block_size == 0 for one in found)
        assert all(one.usage.cached_tokens < one.usage.prompt_tokens for one in found)
        assert all(one.usage.cached_tokens == 0 for one in expected)
    pool = shared._scheduler.pool
    assert pool.available == blocks
    assert not shared._scheduler._prefixes._computing


def test_many_users_of_one_system_prompt_compute_it_once() -> None:
    """Even when they come together: those that come later wait for the blocks that the first one computes."""
    stage = backend(64, BLOCK)
    engine = open_engine(stage, max_context=256, max_sequences=8, max_batch=8, max_step_tokens=64, eos=())
    system = words(1, 10 * BLOCK)
    users = [system + words(100 + user, 5) for user in range(24)]
    done = engine.generate([Request(prompt=prompt, max_tokens=2, temperature=0) for prompt in users])
    assert [one.usage.cached_tokens for one in done] == [0] + [len(system)] * 23
    assert computed(stage) == len(system) + 24 * (5 + 1)


def test_a_second_turn_computes_the_last_answer_and_what_is_new() -> None:
    stage = backend(64, BLOCK)
    engine = open_engine(stage, max_context=256, eos=())
    first = ask(engine, words(1, 100), new=30)
    before = computed(stage)
    prompt = [*words(1, 100), *first.tokens, *words(2, 12)]
    second = ask(engine, prompt)
    assert computed(stage) - before == len(prompt) - second.usage.cached_tokens
    assert second.usage.cached_tokens == 129 // BLOCK * BLOCK  # the last token of an answer is never fed


def test_what_differs_in_one_early_token_shares_nothing() -> None:
    stage = backend(64, BLOCK)
    engine = open_engine(stage, max_context=256, eos=())
    prompt = words(1, 100)
    ask(engine, prompt)
    assert ask(engine, [(prompt[0] + 1) % EOS, *prompt[1:]]).usage.cached_tokens == 0
    late = [*prompt[:70], (prompt[70] + 1) % EOS, *prompt[71:]]
    assert ask(engine, late).usage.cached_tokens == 4 * BLOCK


def test_salts_share_nothing_with_each_other() -> None:
    stage = backend(64, BLOCK)
    engine = open_engine(stage, max_context=256, eos=())
    prompt = words(1, 100)
    found = [ask(engine, prompt, salt=salt).usage.cached_tokens for salt in (None, "a", "b", "a", None, "b")]
    assert found == [0, 0, 0, 96, 96, 96]


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    stage = backend(64, BLOCK)
    engine = open_engine(stage, max_context=256, eos=())
    prompt = words(1, 4 * BLOCK)
    ask(engine, prompt)
    assert ask(engine, prompt).usage.cached_tokens == 3 * BLOCK


def test_without_a_prefix_cache_everything_is_computed() -> None:
    stage = backend(64, BLOCK)
    engine = open_engine(stage, max_context=256, eos=(), prefix_cache=False)
    assert [ask(engine, words(1, 100)).usage.cached_tokens for _ in range(2)] == [0, 0]
    assert computed(stage) == 200


def test_what_was_not_used_for_longest_is_lost_first() -> None:
    """Room for 16 blocks: three prompts of five leave the oldest without its last blocks, then a use renews it."""
    stage = backend(16, BLOCK)
    engine = open_engine(stage, max_context=256, eos=())
    prompts = [words(seed, 5 * BLOCK + 1) for seed in range(4)]
    for prompt in prompts[:3]:
        ask(engine, prompt)
    assert ask(engine, prompts[0]).usage.cached_tokens > 0
    ask(engine, prompts[3])
    kept = [engine._scheduler._prefixes.find(sequence_of(prompt)) for prompt in prompts]
    assert len(kept[3]) == 5
    assert len(kept[0]) > len(kept[1])


def sequence_of(prompt: list[int]):
    from qwen3_runtime.last_row import LastRow
    from qwen3_runtime.sequence import TokenSequence

    return TokenSequence(prompt, LastRow())


def test_a_leader_that_is_cancelled_leaves_its_work_to_those_that_waited() -> None:
    stage = backend(64, BLOCK)
    engine = open_engine(stage, max_context=256, max_sequences=3, max_step_tokens=20, eos=())
    prompt = words(1, 12 * BLOCK)
    first, second = (engine.submit(Request(prompt=[*prompt, seed], max_tokens=2)) for seed in (1, 2))
    stage.before_step = lambda: len(stage.steps) == 4 and first.cancel()
    done = second.result()
    assert len(done.tokens) == 2
    assert done.usage.cached_tokens == 6 * BLOCK  # five steps of 20 tokens ran: 100 tokens, six full blocks
    assert first.result().finish_reason == "cancelled"


@pytest.mark.parametrize("requests", [64])
def test_a_quarter_of_the_worst_case_recomputes_little(requests: int) -> None:
    """Prompts of 40 to 80 tokens, outputs of 20 to 60, 16 at a time: what is preempted is found again."""
    random = np.random.default_rng(0)
    asked = [
        Request(prompt=words(seed, int(random.integers(40, 81))), max_tokens=int(random.integers(20, 61)), seed=seed)
        for seed in range(requests)
    ]
    limits = {"max_context": 256, "max_sequences": 16, "max_batch": 16, "max_step_tokens": 64, "eos": ()}
    stage = backend(16 * (256 // BLOCK) // 4, BLOCK)
    engine = open_engine(stage, **limits)
    done = engine.generate(asked)
    whole = open_engine(backend(16 * (256 // BLOCK), BLOCK), **limits).generate(asked)
    assert [one.tokens for one in done] == [one.tokens for one in whole]
    needed = sum(len(request.prompt or ()) + len(one.tokens) for request, one in zip(asked, done, strict=True))
    assert engine._scheduler.recomputed <= needed / 10
    assert engine._scheduler.pool.evictions > 0
