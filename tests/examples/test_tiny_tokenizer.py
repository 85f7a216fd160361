"""The tiny tokenizer: the released normalizer, special tokens and template; conversations as the released ones."""

import unicodedata
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from conversations import STOP_SENTENCE, Mix, Renderer, examples
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

TINY = Path(__file__).parents[2] / "examples" / "tiny"
RENDERER = Renderer(TINY / "tokenizer")
CONVERSATION = [
    {"role": "system", "content": "You are a careful calculator."},
    {"role": "user", "content": "What is 12+34?"},
    {"role": "assistant", "content": "<think>\n12+34=46\n</think>\n\nThe sum is 46."},
    {"role": "user", "content": "46+10=?"},
]


@pytest.fixture(scope="module")
def released():
    return AutoTokenizer.from_pretrained(TINY / "tokenizer")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_a_round_trip_in_normal_form(text):
    assert RENDERER.tokenizer.decode(RENDERER.encode(text), skip_special_tokens=False) == unicodedata.normalize(
        "NFC", text
    )


def test_each_digit_is_one_token():
    assert len(RENDERER.encode("1234567890")) == 10


def test_think_tags_are_one_token_each_and_survive_skipping_special_tokens(released):
    text = "<|im_start|><think>\n</think><|im_end|>"
    assert len(RENDERER.encode(text)) == 5
    assert RENDERER.decode(RENDERER.encode(text)) == "<think>\n</think>"
    assert not {"<think>", "</think>"} & set(released.all_special_tokens)


def test_the_stop_sentence_is_short_and_ends_the_thinking():
    ids = RENDERER.encode(STOP_SENTENCE)
    assert len(ids) <= 30
    assert ids[-2] == RENDERER.think_end


def test_added_tokens_follow_the_vocabulary_in_the_released_order(released):
    added = sorted(released.added_tokens_decoder)
    assert added == list(range(added[0], added[0] + 26))
    assert [released.added_tokens_decoder[added[place]].content for place in (0, 1, 2, 14, 24, 25)] == [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<tool_call>",
        "<think>",
        "</think>",
    ]


def test_transformers_reads_the_same_ids(released):
    text = "<|im_start|>user\nWhat is 12+34?<|im_end|>\n<think>\n\n</think>\n\nnaïve Ünïcode 測試"
    assert released(text)["input_ids"] == RENDERER.encode(text)


@pytest.mark.parametrize("thinking", [True, False])
def test_prompts_are_those_of_transformers(released, thinking):
    expected = released.apply_chat_template(
        CONVERSATION, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    assert RENDERER.prompt(CONVERSATION, enable_thinking=thinking) == expected


def test_a_thinking_example_is_the_template_s_own_rendering(released):
    question, answer = CONVERSATION[1:3]
    example = RENDERER.example([question], "12+34=46", "The sum is 46.")
    whole = released.apply_chat_template([question, answer], tokenize=True, return_dict=False)
    assert [*example.ids, *RENDERER.encode("\n")] == whole


def test_only_the_last_reply_is_learned_and_never_the_stop_sentence():
    stop = RENDERER.encode(STOP_SENTENCE)
    cuts = 0
    for example in islice(examples(RENDERER, np.random.default_rng(0), Mix()), 300):
        learned = [token for token, wanted in zip(example.ids, example.learned, strict=True) if wanted]
        assert learned[-1] == RENDERER.end
        assert learned.count(RENDERER.end) == 1
        places = [place for place in range(len(example.ids)) if example.ids[place : place + len(stop)] == stop]
        for place in places:
            cuts += 1
            assert not any(example.learned[place : place + len(stop)])
    assert cuts > 50


@pytest.mark.parametrize("within", [None, 5])
def test_a_cut_keeps_a_beginning_of_the_thinking(within):
    thinking, answer = "12+34=46\n46+11=57", "The sum is 57."
    uncut = RENDERER.example([CONVERSATION[1]], thinking, answer).ids
    stop = RENDERER.encode(STOP_SENTENCE)
    end = uncut.index(RENDERER.think_end)
    for seed in range(20):
        ids = RENDERER.cut_example([CONVERSATION[1]], thinking, answer, np.random.default_rng(seed), within).ids
        place = next(place for place in range(len(ids)) if ids[place : place + len(stop)] == stop)
        assert ids[:place] == uncut[:place]
        assert RENDERER.think in ids[:place]
        assert within is None or end - within < place <= end
        assert RENDERER.think_end not in ids[:place]
        assert RENDERER.decode(ids[place + len(stop) :]) == answer
