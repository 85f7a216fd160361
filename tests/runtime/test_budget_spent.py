"""When the budget is spent the model is asked once more: a thought of just that length is finished and not cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scripted import (
    IM_END,
    LIVE,
    THINK,
    THINK_END,
    VOCAB,
    ScriptedBackend,
    background,
    in_turn,
    make_engine,
    turn_of,
)
from thinker import FILLER, QUESTION, SENTENCE_TOKENS, thinker

from qwen3_runtime import Completion, Sampling
from qwen3_runtime.budget import STOP_SENTENCE
from qwen3_runtime.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_runtime.text import ChatTemplate, Tokenizer


@pytest.fixture
def say(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return tokenizer.encode


@pytest.mark.parametrize("length", [1, 2, 9, 50])
def test_a_thought_of_just_the_budgets_length_is_finished_and_not_cut(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]], length: int
) -> None:
    def run(budget: int | None) -> Completion:
        return make_engine(thinker(say("42"), thoughts=length), tokenizer, template).chat(
            QUESTION, thinking_budget=budget
        )

    free, exact, longer = run(None), run(length), run(length + 1)
    assert exact.tokens == free.tokens == longer.tokens
    assert (exact.usage, exact.answer, exact.budget_hit) == (free.usage, "42", False)
    assert exact.usage.reasoning_tokens == length
    if length > 1:
        less = run(length - 1)
        assert (less.usage.reasoning_tokens, less.budget_hit, less.answer) == (length - 1, True, "42")


def test_the_newline_before_the_closing_tag_is_a_token_of_the_reasoning(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    thoughts = [*say("\nSix times seven."), 198]  # "\n", as Qwen3 writes it before the tag
    words = [THINK, *thoughts, THINK_END, 271, *say("42"), IM_END]

    def script(turn: list[int]) -> int:
        if turn[-4:] == say(STOP_SENTENCE)[-4:]:
            return say("42")[0]
        return words[len(turn)] if turn == words[: len(turn)] else IM_END

    def run(budget: int) -> Completion:
        return make_engine(ScriptedBackend(in_turn(script)), tokenizer, template).chat(QUESTION, thinking_budget=budget)

    whole, tight = run(len(thoughts)), run(len(thoughts) - 1)
    assert (whole.budget_hit, whole.usage.reasoning_tokens) == (False, len(thoughts))
    assert (whole.reasoning, whole.answer) == ("Six times seven.", "42")
    assert (tight.budget_hit, tight.usage.reasoning_tokens) == (True, len(thoughts) - 1)
    assert tight.reasoning == "Six times seven." + STOP_SENTENCE.removesuffix("\n</think>\n\n")


def test_the_end_of_turn_that_follows_a_spent_budget_is_not_taken(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    def script(turn: list[int]) -> int:
        if THINK_END in turn:
            return say("42")[0] if turn[-1] == 271 else IM_END
        return [THINK, FILLER, FILLER, IM_END][len(turn)]

    done = make_engine(ScriptedBackend(in_turn(script)), tokenizer, template).chat(QUESTION, thinking_budget=2)
    assert (done.usage.reasoning_tokens, done.budget_hit, done.finish_reason) == (2, True, "stop")
    assert done.answer == tokenizer.decode(say("42")[:1])


def test_the_token_that_gives_way_to_the_stop_sentence_is_not_penalized(
    tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    def logits(tokens: list[int]) -> np.ndarray:
        turn = turn_of(tokens)
        row = background(VOCAB)
        if len(turn) in (0, 1, 2):
            row[[THINK, 500, 501][len(turn)]] = 100  # the last of these reaches the budget
        else:
            row[600], row[601] = 10, 9  # 600 is thrown away first
        return row

    engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
    done = engine.chat(
        QUESTION, thinking_budget=2, max_tokens=60, temperature=0, presence_penalty=2, repetition_penalty=1.5
    )
    assert done.tokens[:3] == (THINK, 500, 501)
    assert done.tokens[3 + SENTENCE_TOKENS :][:2] == (600, 601)


def test_no_penalty_counts_the_stop_sentence(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    of_the_sentence = tokenizer.encode(STOP_SENTENCE)[3]

    def logits(tokens: list[int]) -> np.ndarray:
        turn = turn_of(tokens)
        row = background(VOCAB)
        if THINK_END in turn:
            row[of_the_sentence], row[600] = 10, 9
        else:
            row[FILLER if turn else THINK] = 100
        return row

    engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
    done = engine.chat(
        QUESTION,
        thinking_budget=3,
        max_tokens=70,
        temperature=0,
        presence_penalty=2,
        frequency_penalty=2,
        repetition_penalty=1.5,
    )
    assert done.tokens[4 + SENTENCE_TOKENS] == of_the_sentence
    assert done.tokens[5 + SENTENCE_TOKENS] == 600  # now it was sampled, and counts


def test_a_budget_that_was_spent_without_a_cut_bars_the_opening_tag_too(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    second = say("42")[0]

    def logits(tokens: list[int]) -> np.ndarray:
        turn = turn_of(tokens)
        row = background(VOCAB)
        if len(turn) < 6:
            row[[THINK, FILLER, FILLER, FILLER, FILLER, THINK_END][len(turn)]] = 100
        else:
            row[THINK], row[second] = 200, 100
        return row

    engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
    done = engine.chat(QUESTION, thinking_budget=4, max_tokens=80)
    assert (done.usage.reasoning_tokens, done.usage.forced_tokens, done.budget_hit) == (4, 0, False)
    assert done.tokens.count(THINK) == 1
    assert set(done.tokens[6:]) == {second}


def test_each_token_takes_the_random_number_of_its_turn_the_one_thrown_away_too(
    tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    rows: list[np.ndarray] = []

    def logits(tokens: list[int]) -> np.ndarray:
        row = background(VOCAB)
        if turn_of(tokens):
            row[1000:1100] = 3 * np.random.default_rng(len(tokens)).random(100)
        else:
            row[THINK] = 100
        rows.append(row)
        return row

    sampling = Sampling(temperature=0.9, seed=11)
    engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
    done = engine.chat(QUESTION, thinking_budget=6, max_tokens=70, sampling=sampling)
    sampler = Sampler(sampling, LIVE)
    drawn = [sampler.sample(row) for row in rows]
    after = 7 + SENTENCE_TOKENS
    assert list(done.tokens[:7]) == drawn[:7]
    assert list(done.tokens[after:]) == drawn[8:]
    assert drawn[7] not in (THINK_END, done.tokens[after])


@pytest.mark.parametrize("seed", range(6))
def test_a_thought_that_fits_the_budget_leaves_the_turn_as_without_one(
    tokenizer: Tokenizer, template: ChatTemplate, seed: int
) -> None:
    def logits(tokens: list[int]) -> np.ndarray:
        turn = turn_of(tokens)
        row = background(VOCAB)
        random = np.random.default_rng([len(turn), *turn[-2:]])
        row[1000:1040] = 3 * random.random(40)
        if THINK_END in turn:
            row[IM_END] = 4
        elif turn:
            row[THINK_END] = 2.9 if len(turn) > 2 else -1
            row[THINK] = 2.9 if random.random() < 0.3 else -1  # a second tag within the reasoning counts
        else:
            row[THINK] = 100
        return row

    def run(budget: int | None) -> Completion:
        engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
        return engine.chat(QUESTION, thinking_budget=budget, max_tokens=400, seed=seed, presence_penalty=0.5)

    free = run(None)
    length = free.usage.reasoning_tokens
    for budget in (length, length + 1, length + 20):
        fitting = run(budget)
        assert (fitting.tokens, fitting.usage, fitting.budget_hit) == (free.tokens, free.usage, False)
    if length > 1:
        cut = run(length - 1)
        assert cut.budget_hit
        assert cut.tokens[:length] == free.tokens[:length]


def test_a_late_thought_that_ends_by_itself_needs_no_room_for_the_sentence(
    tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    opening = [THINK, THINK_END, *[FILLER] * 80, THINK, *[FILLER] * 10, THINK_END, 500, IM_END]
    engine = make_engine(ScriptedBackend(in_turn(lambda turn: opening[len(turn)])), tokenizer, template)
    done = engine.chat(QUESTION, thinking_budget=10, max_tokens=100)
    assert (done.finish_reason, done.usage.reasoning_tokens, done.budget_hit) == ("stop", 10, False)
