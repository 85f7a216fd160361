"""A request that makes no sense is one line that names the field, and nothing else happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scripted import IM_END, VOCAB, ScriptedBackend, in_turn, make_engine

from qwen3_runtime import Request, RequestError, Sampling

if TYPE_CHECKING:
    from qwen3_runtime.text import ChatTemplate, Tokenizer

QUESTION = [{"role": "user", "content": "How much is 6 times 7?"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thinking": "no"}, "thinking: expected True, False or None, found 'no'"),
        ({"thinking_budget": -1}, "thinking_budget: expected .* found -1"),
        ({"thinking_budget": True}, "thinking_budget: expected"),
        ({"thinking_budget": "all"}, "thinking_budget: expected .* found 'all'"),
        ({"max_tokens": 0}, "max_tokens: expected .* found 0"),
        ({"max_tokens": 1.5}, r"max_tokens: expected .* found 1\.5"),
        ({"deadline": 0}, r"deadline: expected seconds above 0, up to 1e\+09, found 0"),
        ({"deadline": True}, r"deadline: expected seconds above 0, up to 1e\+09, found True"),
        ({"deadline": float("nan")}, "deadline: expected"),
        ({"answer_reserve": 1}, "answer_reserve: expected a number of tokens from 2, found 1"),
        ({"deadline": 10**400}, r"deadline: expected seconds above 0, up to 1e\+09, found 1000"),
        ({"max_tokens": -(10**5000)}, "max_tokens: expected .* found int"),
        ({"thinking": 0}, "thinking: expected True, False or None, found 0"),
        ({"stop": {"a", "b"}}, "stop: expected a list"),
        ({"stop": [b"a"]}, "stop: expected strings"),
        ({"sampling": 0.5}, "sampling: expected a Sampling or a mapping of its fields, found float"),
        ({"sampling": {"temperature": "hot"}}, "temperature: expected a number from 0 to 100, found 'hot'"),
        ({"temperature": 10**400}, "temperature: expected a number from 0 to 100, found 1000"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty: expected a number from 0.01 to 100, found 1e-300"),
        ({"top_p": 0}, "top_p: expected a number above 0 and at most 1, found 0"),
        ({"top_k": 1.0}, r"top_k: expected an integer from 0 to 2147483647, found 1\.0"),
        ({"temperature": 1, "sampling": {"temperature": 1}}, "temperature: given twice, by itself and in sampling"),
        ({"top_p": 1, "sampling": Sampling(temperature=0)}, "top_p: given twice, by itself and in sampling"),
        ({"seed": 1, "sampling": {"seed": 1}}, "seed: given twice, by itself and in sampling"),
        ({"seed": -1}, "seed: expected"),
    ],
)
def test_options_out_of_range_are_named(
    tokenizer: Tokenizer, template: ChatTemplate, options: dict[str, object], message: str
) -> None:
    backend = ScriptedBackend(lambda _: IM_END)
    engine = make_engine(backend, tokenizer, template)
    with pytest.raises(RequestError, match=message) as caught:
        engine.chat(QUESTION, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert backend.steps == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *(("max_tokens", (1, 2**31 - 1)), ("thinking_budget", (0, 2**31 - 1)), ("answer_reserve", (2, 2**31 - 1))),
        *(("deadline", (1e-9, 0.5, 1e9)), ("temperature", (0, 100)), ("top_k", (0, 2**31 - 1)), ("top_p", (1e-9, 1))),
        *(("min_p", (0, 1)), ("presence_penalty", (-2, 2)), ("frequency_penalty", (-2, 2))),
        *(("repetition_penalty", (0.01, 100)), ("seed", (0, 2**64 - 1))),
    ],
)
def test_the_bounds_of_an_option_are_within_them(name: str, values: tuple[float, ...]) -> None:
    for value in values:
        assert getattr(Request("hi", **{name: value}), name) == value  # type: ignore[arg-type]
    for value in (min(values) - 1, max(values) * 2 if max(values) > 1 else 3):
        with pytest.raises(RequestError, match=f"{name}: expected"):
            Request("hi", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (["a"], r"prompt\[0\]: expected a token id, found 'a'"),
        ([1, 1.5], r"prompt\[1\]: expected a token id, found 1\.5"),
        ([None], r"prompt\[0\]: expected a token id, found None"),
        (5, "prompt: expected text or token ids, found int"),
        (b"text", "prompt: expected text or token ids, found bytes"),
        ([1, VOCAB], r"prompt\[1\]: token id 151936"),
        ([-1], r"prompt\[0\]: token id -1"),
        ([], "the prompt is empty"),
        ("", "the prompt is empty"),
        (np.zeros((1, 2), np.int64), r"prompt\[0\]: expected a token id"),
    ],
)
def test_prompts_are_text_or_token_ids(
    tokenizer: Tokenizer, template: ChatTemplate, prompt: object, message: str
) -> None:
    engine = make_engine(ScriptedBackend(lambda _: IM_END), tokenizer, template)
    with pytest.raises(RequestError, match=message):
        engine.complete(prompt)  # type: ignore[arg-type]


def test_token_ids_may_be_numpys(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    backend = ScriptedBackend(lambda _: IM_END)
    engine = make_engine(backend, tokenizer, template)
    assert engine.complete(np.array([5, 6], np.int32)).finish_reason == "stop"  # type: ignore[arg-type]
    assert backend.steps[0].input_ids.tolist() == [5, 6]


def test_a_prompt_comes_from_messages_where_neither_or_both_are_given() -> None:
    given_alone = {"prompt": Request(prompt=[1]), "messages": Request("hi")}
    assert {name: request.source for name, request in given_alone.items()} == {
        "prompt": "prompt",
        "messages": "messages",
    }
    assert Request().source == Request("hi", prompt=[1]).source == "messages"


def test_a_request_is_a_chat_or_a_raw_prompt(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    engine = make_engine(ScriptedBackend(lambda _: IM_END), tokenizer, template)
    for request in (Request(), Request(messages=QUESTION, prompt="text")):
        with pytest.raises(RequestError, match="either messages or prompt"):
            engine.submit(request)
    with pytest.raises(RequestError, match="tools: only a chat template can show them; give messages"):
        engine.complete("text", tools=[])


def test_without_a_tokenizer_what_needs_text_is_refused() -> None:
    engine = make_engine(ScriptedBackend(lambda _: IM_END), None, None)
    with pytest.raises(RequestError, match="stop: this engine has no tokenizer"):
        engine.complete([1], stop=["a"])
    with pytest.raises(RequestError, match="thinking_budget: this engine has no tokenizer"):
        engine.complete([1], thinking_budget=9)
    assert engine.complete([1], sampling=Sampling(temperature=0)).finish_reason == "stop"


@pytest.mark.parametrize("reserve", [2, 3])
@pytest.mark.parametrize("budget", [1, 7])
def test_the_least_reserve_is_the_tag_and_one_token_of_answer(
    tokenizer: Tokenizer, template: ChatTemplate, reserve: int, budget: int
) -> None:
    """A model that thinks for ever is cut also where an admitted budget leaves as little room as may be."""
    sentence = 24
    backend = ScriptedBackend(in_turn(lambda turn: 151667 if not turn else 1154))
    engine = make_engine(backend, tokenizer, template)
    room = budget + sentence + reserve
    done = engine.chat(QUESTION, thinking_budget=budget, max_tokens=room, answer_reserve=reserve)
    assert (done.budget_hit, done.usage.reasoning_tokens, done.usage.forced_tokens) == (True, budget, sentence)
    assert (done.usage.answer_tokens, done.usage.completion_tokens) == (reserve - 1, room)
