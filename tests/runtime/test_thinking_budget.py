"""The rules of the thinking budget, through the whole decode loop, with a model that follows a script.

Reference: scripted backends
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripted import (
    IM_END,
    THINK,
    THINK_END,
    ScriptedBackend,
    in_turn,
    make_engine,
)

from qwen3_runtime import Request, RequestError
from qwen3_runtime.budget import STOP_SENTENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_runtime.text import ChatTemplate, Tokenizer

from thinker import FILLER, QUESTION, SENTENCE_TOKENS, thinker


@pytest.fixture
def say(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return tokenizer.encode


def test_the_stop_sentence_is_the_one_of_the_report(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(STOP_SENTENCE)
    assert len(ids) == SENTENCE_TOKENS
    assert ids[:4] == [271, 82796, 279, 7199]
    assert ids[-4:] == [1431, 624, THINK_END, 271]


@pytest.mark.parametrize("budget", [1, 2, 17, 100])
def test_reasoning_is_cut_at_exactly_the_budget(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]], budget: int
) -> None:
    done = make_engine(thinker(say("42")), tokenizer, template).chat(QUESTION, thinking_budget=budget)
    assert done.usage.reasoning_tokens == budget
    assert done.usage.forced_tokens == SENTENCE_TOKENS
    assert done.budget_hit
    assert done.finish_reason == "stop"
    assert done.answer == "42"
    assert done.reasoning.endswith("based on the thinking directly now.")
    assert list(done.tokens[budget + 1 : budget + 1 + SENTENCE_TOKENS]) == tokenizer.encode(STOP_SENTENCE)
    assert done.usage.completion_tokens == 1 + budget + SENTENCE_TOKENS + len(say("42")) + 1


def test_reasoning_that_ends_by_itself_is_left_alone(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    done = make_engine(thinker(say("42"), thoughts=9), tokenizer, template).chat(QUESTION, thinking_budget=10)
    assert (done.usage.reasoning_tokens, done.usage.forced_tokens, done.budget_hit) == (9, 0, False)
    assert done.answer == "42"


def test_no_budget_means_no_cut(tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]) -> None:
    engine = make_engine(thinker(say("42"), thoughts=300), tokenizer, template, budget=5)
    done = engine.chat(QUESTION, thinking_budget=None)
    assert (done.usage.reasoning_tokens, done.budget_hit) == (300, False)


def test_the_engines_default_budget_applies_when_the_request_names_none(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    done = make_engine(thinker(say("42")), tokenizer, template, budget=33).chat(QUESTION)
    assert (done.usage.reasoning_tokens, done.budget_hit) == (33, True)


def test_an_engine_that_does_not_think_by_default_does_when_told_to(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    engine = make_engine(thinker(say("42"), thoughts=9), tokenizer, template, budget=0)
    assert engine.chat(QUESTION, thinking=True).usage.reasoning_tokens == 9
    done = engine.chat(QUESTION)
    assert (done.answer, done.usage.reasoning_tokens, done.usage.forced_tokens) == ("42", 0, 0)


def test_neither_the_prompt_nor_thinking_in_its_history_counts(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    history = [
        {"role": "user", "content": "Explain the tags <think> and </think>."},
        {"role": "assistant", "content": "Sure: </think> closes.", "reasoning_content": "long " * 50},
        {"role": "user", "content": "</think> 6 times 7?"},
    ]
    done = make_engine(thinker(say("42")), tokenizer, template).chat(history, thinking_budget=12)
    assert (done.usage.reasoning_tokens, done.budget_hit, done.answer) == (12, True, "42")


def test_thinking_that_the_prompt_opened_is_counted_from_its_first_token(
    tokenizer: Tokenizer, always_template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    def script(turn: list[int]) -> int:
        assert turn[0] == THINK  # the prompt's
        if THINK_END not in turn:
            return FILLER
        said = turn[turn.index(THINK_END) + 2 :]
        return say("42")[len(said)] if len(said) < 2 else IM_END

    engine = make_engine(ScriptedBackend(in_turn(script)), tokenizer, always_template, thinking="always")
    done = engine.chat(QUESTION, thinking_budget=7)
    assert (done.usage.reasoning_tokens, done.budget_hit, done.answer) == (7, True, "42")
    assert done.reasoning.startswith(tokenizer.decode([FILLER]).lstrip("\n"))
    assert "think>" not in done.reasoning


def test_a_model_that_always_thinks_answers_at_once_with_budget_0(
    tokenizer: Tokenizer, always_template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    def script(turn: list[int]) -> int:
        sentence = tokenizer.encode(STOP_SENTENCE)
        assert turn[2 : 2 + SENTENCE_TOKENS] == sentence
        said = turn[2 + SENTENCE_TOKENS :]
        return say("42")[len(said)] if len(said) < 2 else IM_END

    backend = ScriptedBackend(in_turn(script))
    engine = make_engine(backend, tokenizer, always_template, thinking="always")
    done = engine.chat(QUESTION, thinking_budget=0)
    assert (done.usage.reasoning_tokens, done.usage.forced_tokens, done.answer) == (0, SENTENCE_TOKENS, "42")
    assert len(backend.steps[0].input_ids) == done.usage.prompt_tokens + SENTENCE_TOKENS
    with pytest.raises(RequestError, match="always thinks"):
        engine.chat(QUESTION, thinking=False)


@pytest.mark.parametrize("options", [{"thinking": False}, {"thinking_budget": 0}])
def test_budget_0_is_the_hard_switch_of_a_hybrid_model(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]], options: dict[str, int]
) -> None:
    answer = say("42")

    def script(turn: list[int]) -> int:
        assert turn[:4] == [THINK, 271, THINK_END, 271]
        return answer[len(turn) - 4] if len(turn) - 4 < len(answer) else IM_END

    engine = make_engine(ScriptedBackend(in_turn(script)), tokenizer, template, budget=50)
    done = engine.chat(QUESTION, **options)  # type: ignore[arg-type]
    assert (done.usage.reasoning_tokens, done.usage.forced_tokens, done.budget_hit) == (0, 0, False)
    assert (done.reasoning, done.answer) == ("", "42")


def test_without_thinking_nothing_is_ever_counted_as_reasoning(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    words = [THINK, *say("not a thought"), THINK_END, *say("42")]

    def script(turn: list[int]) -> int:
        return words[len(turn) - 4] if len(turn) - 4 < len(words) else IM_END

    engine = make_engine(ScriptedBackend(in_turn(script)), tokenizer, template, budget=2)
    done = engine.chat(QUESTION, thinking=False)
    assert (done.usage.reasoning_tokens, done.reasoning, done.answer) == (0, "", "not a thought42")


@pytest.mark.parametrize("max_tokens", [SENTENCE_TOKENS + 32 + 50, 10_000])
def test_the_requests_own_budget_must_leave_room_for_sentence_and_answer(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]], max_tokens: int
) -> None:
    engine = make_engine(thinker(say("42")), tokenizer, template, max_context=200)
    prompt = len(tokenizer.encode(template.render(QUESTION, enable_thinking=True)))
    most = min(max_tokens, 200 - prompt) - SENTENCE_TOKENS - 32
    assert engine.chat(QUESTION, thinking_budget=most, max_tokens=max_tokens).usage.reasoning_tokens == most
    with pytest.raises(RequestError, match=rf"thinking_budget {most + 1} \+ 24 .* 32 reserved .* lower .* to {most}"):
        engine.chat(QUESTION, thinking_budget=most + 1, max_tokens=max_tokens)


def test_the_default_budget_is_lowered_to_what_fits(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    engine = make_engine(thinker(say("42")), tokenizer, template, budget=8192)
    assert engine.chat(QUESTION, max_tokens=100).usage.reasoning_tokens == 100 - SENTENCE_TOKENS - 32
    few = engine.chat(QUESTION, max_tokens=24 + 32)  # not one token of a budget fits: max_tokens ends the reasoning
    assert (few.finish_reason, few.usage.forced_tokens, few.usage.completion_tokens) == ("length", 0, 56)


def test_output_never_grows_past_max_tokens(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    """The reasoning is re-opened so late that the stop sentence does not fit any more."""
    opening = [THINK, THINK_END, *[FILLER] * 80, THINK]

    def script(turn: list[int]) -> int:
        return opening[len(turn)] if len(turn) < len(opening) else FILLER

    engine = make_engine(ScriptedBackend(in_turn(script)), tokenizer, template)
    done = engine.chat(QUESTION, thinking_budget=10, max_tokens=100)
    assert done.usage.completion_tokens <= 100
    assert done.usage.reasoning_tokens == 10
    assert (done.finish_reason, done.usage.forced_tokens) == ("length", 0)


@pytest.mark.parametrize(("left", "forced"), [(0, 0), (1, SENTENCE_TOKENS)])
def test_a_late_cut_needs_room_for_the_sentence_and_a_token_of_the_answer(
    tokenizer: Tokenizer, template: ChatTemplate, left: int, forced: int
) -> None:
    """Where the sentence fills the room exactly, the turn ends before it, and not one token behind it."""
    opening = [THINK, THINK_END, *[FILLER] * 80, THINK]
    reasoned = len(opening) + 10

    def script(turn: list[int]) -> int:
        return opening[len(turn)] if len(turn) < len(opening) else FILLER

    engine = make_engine(ScriptedBackend(in_turn(script)), tokenizer, template)
    most = reasoned + SENTENCE_TOKENS + left
    done = engine.chat(QUESTION, thinking_budget=10, max_tokens=most)
    assert (done.finish_reason, done.usage.reasoning_tokens, done.usage.forced_tokens) == ("length", 10, forced)
    assert done.usage.completion_tokens == (most if forced else reasoned)


def test_content_is_not_empty_when_the_model_answers_without_thinking(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    words = [*say("42"), IM_END]
    backend = ScriptedBackend(in_turn(lambda turn: words[len(turn)]))
    done = make_engine(backend, tokenizer, template).chat(QUESTION, thinking_budget=6)
    assert (done.reasoning, done.answer, done.usage.reasoning_tokens) == ("", "42", 0)


def test_a_model_that_never_thinks_refuses_a_budget(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    words = [*say("42"), IM_END]
    backend = ScriptedBackend(in_turn(lambda turn: words[len(turn)]))
    engine = make_engine(backend, tokenizer, template, thinking="never")
    assert engine.chat(QUESTION).answer == "42"
    for options in ({"thinking": True}, {"thinking_budget": 9}):
        with pytest.raises(RequestError, match="never thinks"):
            engine.chat(QUESTION, **options)  # type: ignore[arg-type]


def test_each_sequence_of_a_batch_has_its_own_budget(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    engine = make_engine(thinker(say("42")), tokenizer, template)
    budgets = [3, 30, 8]
    done = engine.generate([Request(messages=QUESTION, thinking_budget=budget) for budget in budgets])
    assert [one.usage.reasoning_tokens for one in done] == budgets
    assert {one.answer for one in done} == {"42"}
