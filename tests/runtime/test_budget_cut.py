"""What lies around the cut of a thinking budget: the stop sentence, tags, tool calls, split characters, seeds.

Reference: scripted backends
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scripted import (
    IM_END,
    THINK,
    THINK_END,
    TOOL_CALL,
    TOOL_CALL_END,
    VOCAB,
    ScriptedBackend,
    background,
    in_turn,
    make_engine,
    turn_of,
)

from qwen3_runtime import Sampling
from qwen3_runtime.budget import STOP_SENTENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_runtime.text import ChatTemplate, Tokenizer

from thinker import FILLER, QUESTION, SENTENCE_TOKENS, thinker


@pytest.fixture
def say(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return tokenizer.encode


def test_the_sentence_is_one_prefill_and_not_24_steps(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    backend = thinker(say("42"))
    done = make_engine(backend, tokenizer, template).chat(QUESTION, thinking_budget=10)
    sizes = [len(step.input_ids) for step in backend.steps]
    # After the last token of the reasoning the model is asked once more whether it has finished.
    assert sizes == [done.usage.prompt_tokens, *[1] * 11, SENTENCE_TOKENS, *[1] * len(say("42"))]


def test_the_sentence_bypasses_temperature_penalties_and_stop_strings(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    harsh = Sampling(temperature=1.5, presence_penalty=2.0, frequency_penalty=1.0, repetition_penalty=1.5, seed=1)
    backend = thinker(say("42"))
    done = make_engine(backend, tokenizer, template).chat(
        QUESTION, thinking_budget=5, sampling=harsh, stop=["solution", "\n\n", "Considering"]
    )
    assert list(done.tokens[6:30]) == tokenizer.encode(STOP_SENTENCE)
    assert (done.finish_reason, done.answer) == ("stop", "42")


def test_end_of_turn_inside_the_reasoning_ends_the_turn(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    script = in_turn(lambda turn: [THINK, FILLER, FILLER, IM_END][len(turn)])
    done = make_engine(ScriptedBackend(script), tokenizer, template).chat(QUESTION, thinking_budget=50)
    assert (done.finish_reason, done.answer, done.budget_hit) == ("stop", "", False)
    assert done.usage.reasoning_tokens == 2


def test_a_tool_call_inside_the_reasoning_is_reasoning_and_never_a_call(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    call = [TOOL_CALL, *say('\n{"name": "wipe"}\n'), TOOL_CALL_END]
    good = [TOOL_CALL, *say('\n{"name": "add"}\n'), TOOL_CALL_END]
    words = [THINK, *call, THINK_END, 271, *good, IM_END]
    backend = ScriptedBackend(in_turn(lambda turn: words[len(turn)]))
    done = make_engine(backend, tokenizer, template).chat(QUESTION, thinking_budget=50)
    assert done.tool_calls == ('{"name": "add"}',)
    assert "wipe" in done.reasoning
    assert done.usage.reasoning_tokens == len(call)


def test_a_character_cut_by_the_budget_spoils_neither_sentence_nor_answer(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    rare = next(ids for ids in (tokenizer.encode(text) for text in "𓀀𒀀𝕫") if len(ids) >= 2)

    def script(turn: list[int]) -> int:
        if THINK_END in turn:
            said = turn[turn.index(THINK_END) + 2 :]
            return say("42")[len(said)] if len(said) < 2 else IM_END
        return THINK if not turn else rare[(len(turn) - 1) % len(rare)]

    done = make_engine(ScriptedBackend(in_turn(script)), tokenizer, template).chat(QUESTION, thinking_budget=1)
    assert done.reasoning.startswith("\ufffd")
    assert done.reasoning.endswith(
        "Considering the limited time by the user, I have to give the solution based on the thinking directly now."
    )
    assert done.answer == "42"


def test_a_second_closing_tag_after_the_cut_never_reaches_the_answer(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    answer = [THINK_END, 271, *say('{"x": 1}')]

    def script(turn: list[int]) -> int:
        if THINK_END not in turn:
            return THINK if not turn else FILLER
        said = turn[turn.index(THINK_END) + 2 :]
        return answer[len(said)] if len(said) < len(answer) else IM_END

    done = make_engine(ScriptedBackend(in_turn(script)), tokenizer, template).chat(QUESTION, thinking_budget=3)
    assert done.answer == '{"x": 1}'
    assert done.usage.forced_tokens == SENTENCE_TOKENS


def test_a_reopened_tag_continues_the_same_count(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    """Reasons 6 tokens, answers, opens again: 4 more are left of 10."""
    opening = [THINK, *[FILLER] * 6, THINK_END, *say("first"), THINK]

    def script(turn: list[int]) -> int:
        if len(turn) < len(opening):
            return opening[len(turn)]
        rest = turn[len(opening) :]
        if THINK_END not in rest:
            return FILLER
        said = rest[rest.index(THINK_END) + 2 :]
        return say("last")[0] if not said else IM_END

    done = make_engine(ScriptedBackend(in_turn(script)), tokenizer, template).chat(QUESTION, thinking_budget=10)
    assert (done.usage.reasoning_tokens, done.usage.forced_tokens) == (10, SENTENCE_TOKENS)
    assert done.answer.startswith("first")
    assert done.answer.endswith("last")


def test_once_the_budget_is_spent_the_opening_tag_cannot_be_sampled(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    """A model that wants nothing but to think again gets its second choice, and is cut only once."""
    second = say("42")[0]

    def logits(tokens: list[int]) -> np.ndarray:
        turn = turn_of(tokens)
        row = background(VOCAB)
        if turn and THINK_END not in turn:
            row[FILLER] = 100
        else:
            row[THINK], row[second] = 200, 100
        return row

    engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
    done = engine.chat(QUESTION, thinking_budget=4, max_tokens=4 + 24 + 40)
    assert (done.usage.reasoning_tokens, done.usage.forced_tokens) == (4, SENTENCE_TOKENS)
    assert done.tokens.count(THINK) == 1
    assert (done.finish_reason, done.usage.completion_tokens) == ("length", 68)


def test_the_same_seed_gives_the_same_tokens_up_to_the_cut(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    def logits(tokens: list[int]) -> np.ndarray:
        row = background(VOCAB)
        turn = turn_of(tokens)
        if not turn:
            row[THINK] = 100
        else:
            row[1000:1100] = 50 + np.random.default_rng(sum(tokens)).random(100)
        return row

    def run(budget: int | None) -> tuple[int, ...]:
        engine = make_engine(ScriptedBackend(logits=logits), tokenizer, template)
        return engine.chat(QUESTION, thinking_budget=budget, max_tokens=120, seed=11).tokens

    free, cut = run(None), run(40)
    assert free[:41] == cut[:41]
    assert len(set(free[:41])) > 10  # the model is really random
    assert free[41] != cut[41]


def test_structured_output_starts_after_the_reasoning_and_carries_no_tag(
    tokenizer: Tokenizer, template: ChatTemplate, say: Callable[[str], list[int]]
) -> None:
    done = make_engine(thinker(say('{"product": 42}')), tokenizer, template).chat(QUESTION, thinking_budget=6)
    assert done.answer == '{"product": 42}'
