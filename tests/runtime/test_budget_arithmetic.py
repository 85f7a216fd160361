"""The numbers of the thinking budget: over any tokens, at any size, and for any requests that share a batch.

Reference: scripted backends
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import IM_END, THINK, THINK_END, VOCAB, ScriptedBackend, background, make_engine, turn_of

from qwen3_runtime import Completion, Request, RequestError, Sampling
from qwen3_runtime.budget import STOP_SENTENCE, ThinkingBudget, fit_budget
from qwen3_runtime.text import ReasoningSplitter, ThinkingStart

if TYPE_CHECKING:
    from qwen3_runtime.text import ChatTemplate, Tokenizer

QUESTION = [{"role": "user", "content": "Say </think> or <think>."}]
BACKGROUND = background(VOCAB)
DEFAULT_BUDGET = 15


@settings(deadline=None)
@given(
    tokens=st.lists(st.sampled_from([THINK, THINK_END, 5, 6, 7]), max_size=60),
    limit=st.none() | st.integers(0, 12),
    start=st.sampled_from([ThinkingStart.MAY_OPEN, ThinkingStart.INSIDE]),
)
def test_the_count_is_that_of_the_tokens_between_tags(
    tokens: list[int], limit: int | None, start: ThinkingStart
) -> None:
    """Against a count made afterwards, over the text; accepted one by one, as from speculative decoding too."""
    splitter = ReasoningSplitter(THINK, THINK_END, start)
    budget = ThinkingBudget(limit, inside=start is ThinkingStart.INSIDE)
    taken: list[int] = []
    for token in tokens:
        if budget.cut_due:
            break
        part = splitter.push(token)
        budget.observe(part, thinking=splitter.thinking)
        taken.append(token)
    inside, count = start is ThinkingStart.INSIDE, 0
    for token in taken:
        if token == THINK_END:
            inside = False
        elif inside:
            count += 1
        elif token == THINK:
            inside = True
    assert budget.reasoning_tokens == count
    assert limit is None or count <= limit


@given(budget=st.integers(0, 500), room=st.integers(1, 500), sentence=st.integers(0, 40), reserve=st.integers(1, 60))
def test_an_accepted_budget_always_leaves_room(budget: int, room: int, sentence: int, reserve: int) -> None:
    for requested in (True, False):
        try:
            fitted = fit_budget(budget, requested=requested, room=room, stop_sentence=sentence, reserve=reserve)
        except RequestError:
            assert requested
            assert budget + sentence + reserve > room
            continue
        if fitted is None:
            assert not requested
            assert 1 + sentence + reserve > room
            continue
        assert fitted + sentence + reserve <= room
        assert fitted == budget or not requested


@pytest.mark.parametrize(("room", "fitted"), [(57, 1), (56, None), (58, 2), (64, 8), (65, 8)])
def test_a_default_budget_is_lowered_to_what_fits_and_dropped_where_not_one_token_does(
    room: int, fitted: int | None
) -> None:
    assert fit_budget(8, requested=False, room=room, stop_sentence=24, reserve=32) == fitted


def ramble(tokens: list[int]) -> np.ndarray:
    """Random words and pieces of characters, with tags and ends of turn anywhere among them."""
    turn = turn_of(tokens)
    random = np.random.default_rng([len(turn), *turn[-3:]])
    row = BACKGROUND.copy()
    row[1000:1040] = 3 * random.random(40)
    row[160:250] = 3 * random.random(90)
    row[THINK] = 4 if not turn or random.random() < 0.1 else 0
    row[THINK_END] = 3 if random.random() < 0.15 else 0
    row[IM_END] = 2 if random.random() < 0.1 else -1
    return row


requests = st.builds(
    Request,
    messages=st.just(QUESTION),
    max_tokens=st.sampled_from([1, 2, 30, 60, 61, 90]),
    thinking_budget=st.sampled_from([None, "default", 0, 1, 2, 5, 20, 30]),
    answer_reserve=st.integers(2, 5),
    sampling=st.sampled_from([None, Sampling(top_k=50, presence_penalty=1.5, repetition_penalty=1.1)]),
    seed=st.integers(0, 1000),
)


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_a_cut_is_the_same_in_any_company_and_its_numbers_add_up(
    data: st.DataObject, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    """Chunks, small blocks and preemption change nothing; tokens are counted again from the output alone."""

    def engine(num_blocks: int, block_size: int, **limits: int):
        backend = ScriptedBackend(logits=ramble, num_blocks=num_blocks, block_size=block_size)
        return make_engine(backend, tokenizer, template, max_context=140, budget=DEFAULT_BUDGET, **limits)

    alone = engine(1, 140, max_sequences=1)
    together = engine(
        data.draw(st.sampled_from([9, 12, 20]), "blocks"),
        16,
        max_sequences=4,
        max_step_tokens=data.draw(st.sampled_from([8, 16, 33, 512]), "max_step_tokens"),
    )
    accepted, expected = [], []
    for request in data.draw(st.lists(requests, min_size=1, max_size=5), "requests"):
        try:
            expected.append(alone.generate([request])[0])
        except RequestError:
            continue
        accepted.append(request)
    for request, one, other in zip(accepted, expected, together.generate(accepted), strict=True):
        assert outcome(one) == outcome(other)
        check_counts(request, one, tokenizer.encode(STOP_SENTENCE))


def outcome(done: Completion) -> tuple[object, ...]:
    """All that the request alone decides; how much the prefix cache held is up to the others."""
    usage = replace(done.usage, cached_tokens=0)
    return done.tokens, done.reasoning, done.answer, usage, done.finish_reason, done.budget_hit


def check_counts(request: Request, done: Completion, sentence: list[int]) -> None:
    tokens, size = list(done.tokens), len(sentence)
    cuts = [place for place in range(len(tokens)) if tokens[place : place + size] == sentence]
    assert len(cuts) == done.budget_hit
    assert done.usage.forced_tokens == size * len(cuts)
    assert done.usage.completion_tokens == len(tokens) <= (request.max_tokens or 0)
    sampled = [*tokens[: cuts[0]], THINK_END, *tokens[cuts[0] + size :]] if cuts else tokens
    inside, reasoning, answer = False, 0, 0
    for token in sampled:
        if token == THINK_END:
            inside = False
        elif inside and token != IM_END:
            reasoning += 1
        elif token == THINK:
            inside = request.thinking_budget != 0
        elif token != IM_END:
            answer += 1
    assert (done.usage.reasoning_tokens, done.usage.answer_tokens) == (reasoning, answer)
    if isinstance(request.thinking_budget, int):
        assert reasoning <= request.thinking_budget
    if cuts:
        assert len(tokens) > cuts[0] + size, "no answer behind the stop sentence"
