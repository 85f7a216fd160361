"""Reasoning and answer are told apart, for every way a model may begin, end or omit its thinking."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_runtime.text import Part, ReasoningSplitter, ReplyStream, ThinkingStart, soft_switch, thinking_start

STOP_SENTENCE = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now."
    "\n</think>\n\n"
)
TURN = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def reply(tokenizer, text, start, stops=()):
    """Reasoning, answer and the parts of the tokens of `text`, streamed token by token."""
    stream = ReplyStream(tokenizer, start, stops)
    parts, deltas = zip(*[stream.push(i) for i in tokenizer.encode(text)], strict=True)
    deltas = [*deltas, stream.flush()]
    return "".join(d.reasoning for d in deltas), "".join(d.answer for d in deltas), list(parts)


@pytest.mark.parametrize(
    ("start", "text", "reasoning", "answer"),
    [
        (ThinkingStart.MAY_OPEN, "<think>\nfirst\n\nsecond\n</think>\n\nHello", "first\n\nsecond", "Hello"),
        (ThinkingStart.MAY_OPEN, "Hello\n", "", "Hello\n"),
        (ThinkingStart.MAY_OPEN, "\n\nHello", "", "\n\nHello"),
        (ThinkingStart.MAY_OPEN, "<think>\n\n</think>\n\nHello", "", "Hello"),
        (ThinkingStart.MAY_OPEN, "<think>\nnever closed", "never closed", ""),
        (ThinkingStart.MAY_OPEN, "Hello</think> there", "", "Hello there"),
        (ThinkingStart.INSIDE, "thought\n</think>\n\nHello", "thought", "Hello"),
        (ThinkingStart.INSIDE, "thought" + STOP_SENTENCE + "Hello", "thought" + STOP_SENTENCE[:-11], "Hello"),
        (ThinkingStart.INSIDE, "a\n</think>\n\nb\n</think>\n\nc", "a", "b\n\n\nc"),
        (ThinkingStart.INSIDE, "<think>\na\n</think>\n\nb", "a", "b"),
        (ThinkingStart.INSIDE, "a\n</think>\n\nb<think>c</think>d", "a\nc", "bd"),
        (ThinkingStart.INSIDE, "a\n</think>\n\nb<think>\nc\n</think>d", "a\n\nc", "bd"),
        (ThinkingStart.INSIDE, "a <tool_call>\n{}\n</tool_call> b</think>c", "a <tool_call>\n{}\n</tool_call> b", "c"),
        (ThinkingStart.OFF, "Hello", "", "Hello"),
        (ThinkingStart.OFF, "<think>\nHello", "", "Hello"),
        (ThinkingStart.OFF, '{"a": 1}</think>', "", '{"a": 1}'),
    ],
)
def test_splits_a_reply(start, text, reasoning, answer, tokenizer):
    assert reply(tokenizer, text, start)[:2] == (reasoning, answer)


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from(ThinkingStart),
    pieces=st.lists(
        st.sampled_from(["<think>", "</think>", "\n", "\n\n", "word", " 字", "🫨"]), min_size=1, max_size=12
    ),
)
def test_no_text_is_lost_and_no_tag_is_shown(start, pieces, tokenizer):
    text = "".join(pieces)
    reasoning, answer, parts = reply(tokenizer, text, start)
    assert "think>" not in reasoning + answer
    visible = text.replace("<think>", "").replace("</think>", "")
    assert sorted((reasoning + answer).replace("\n", "")) == sorted(visible.replace("\n", ""))
    assert parts.count(Part.TAG) == text.count("think>")
    assert reasoning == reasoning.strip("\n")
    if start is ThinkingStart.OFF:
        assert reasoning == ""
        assert Part.REASONING not in parts


def test_tokens_are_attributed_one_by_one(tokenizer):
    parts = reply(tokenizer, "<think>\na</think>\n\nb", ThinkingStart.MAY_OPEN)[2]
    assert parts == [Part.TAG, Part.REASONING, Part.REASONING, Part.TAG, Part.ANSWER, Part.ANSWER]


def test_a_character_cut_by_the_budget_stays_in_the_reasoning(tokenizer):
    cut = tokenizer.encode("🫨")[:-1]
    stream = ReplyStream(tokenizer, ThinkingStart.INSIDE)
    deltas = [stream.push(i)[1] for i in cut + tokenizer.encode("</think>\n\nok")] + [stream.flush()]
    assert "".join(d.reasoning for d in deltas) == "\ufffd"
    assert "".join(d.answer for d in deltas) == "ok"


def test_stop_strings_end_the_answer_and_not_the_reasoning(tokenizer):
    text = "a STOP b\n</think>\n\nHello STOP more"
    assert reply(tokenizer, text, ThinkingStart.INSIDE, ["STOP"])[:2] == ("a STOP b", "Hello ")


def test_the_format_of_the_closing_tag_is_no_stop_string(tokenizer):
    assert reply(tokenizer, "a" + STOP_SENTENCE + "b\n\nc", ThinkingStart.INSIDE, ["\n\n"])[1] == "b"


def test_special_tokens_have_no_text(tokenizer):
    assert reply(tokenizer, "Hello<|im_end|>", ThinkingStart.OFF)[:2] == ("", "Hello")


def test_without_think_tokens_everything_is_the_answer():
    splitter = ReasoningSplitter(None, None, ThinkingStart.MAY_OPEN)
    assert {splitter.push(i) for i in (0, 5, 151_667)} == {Part.ANSWER}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (TURN, ThinkingStart.MAY_OPEN),
        (TURN + "<think>\n", ThinkingStart.INSIDE),
        (TURN + "<think>\nso far", ThinkingStart.INSIDE),
        (TURN + "<think>\n\n</think>\n\n", ThinkingStart.OFF),
        (TURN + "<think>\nold\n</think>\n\nHi<|im_end|>\n" + TURN, ThinkingStart.MAY_OPEN),
        (TURN + "<think>\nold\n</think>\n\nHi<|im_end|>\n", ThinkingStart.MAY_OPEN),
        (TURN.replace("hi", "what is <think>?"), ThinkingStart.MAY_OPEN),
        (TURN.replace("hi", "what is </think>?") + "<think>\n", ThinkingStart.INSIDE),
        ("Once upon a time", ThinkingStart.MAY_OPEN),
        ("Problem: 1 + 1\n<think>\n", ThinkingStart.INSIDE),
        ("", ThinkingStart.MAY_OPEN),
    ],
)
def test_the_prompt_says_how_thinking_starts(prompt, expected):
    assert thinking_start(prompt) is expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["hi"], None),
        (["hi /no_think"], False),
        (["hi /think"], True),
        (["/no_think hi /think"], True),
        (["/no_think", "/think"], True),
        (["/think", "/no_think", "hi"], False),
        (["hi?/no_think"], False),
        (["你好/no_think"], False),
        (["/no_think."], False),
        (["cd /usr/think"], None),
        (["cd /think/tank"], None),
        (["open /think.md or /no_think_at_all or /thinking or and/think"], None),
        (["https://a.b/think"], None),
        (["/THINK"], None),
    ],
)
def test_the_last_soft_switch_wins(texts, expected):
    assert soft_switch([{"role": "user", "content": text} for text in texts]) is expected


def test_soft_switches_count_in_system_and_user_messages_only():
    others = [
        {"role": "assistant", "content": "/think", "tool_calls": []},
        {"role": "tool", "content": "/think"},
        {"role": "assistant", "content": None},
    ]
    assert soft_switch([{"role": "system", "content": "/no_think"}, *others]) is False
    assert soft_switch(others) is None


def test_soft_switches_are_found_in_text_parts():
    parts = [{"type": "text", "text": "/think"}, {"type": "text", "text": "no /no_think"}, {"type": "image_url"}]
    for content in (parts, tuple(parts)):  # a request takes either
        assert soft_switch([{"role": "user", "content": content}]) is False
