"""The texts that are read during calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwen3_compile.calibrate import collect_sequences
from qwen3_compile.calibrate.texts import built_in
from qwen3_compile.validate.cases import PROMPTS, TEXT
from qwen3_runtime.text import ChatTemplate, Tokenizer

TINY = Path(__file__).parents[3] / "examples" / "tiny" / "dense"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.open(TINY)


@pytest.fixture(scope="module")
def template():
    return ChatTemplate.open(TINY)


def test_every_built_in_text_is_read_as_a_turn_of_a_chat(tokenizer, template):
    found = collect_sequences(tokenizer, template, prompts=None, tokenizer_vocab=426, max_context=100_000)
    assert len(found) == len(built_in()) == 12
    for ids, (question, answer) in zip(found, built_in(), strict=True):
        whole = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}"
        assert whole.startswith(tokenizer.decode(list(ids)))
        assert ids.dtype == np.int64


def test_a_model_without_a_template_reads_the_bare_text(tokenizer):
    (ids,) = collect_sequences(tokenizer, None, prompts=["12+30=?"], tokenizer_vocab=426, max_context=64)
    assert tokenizer.decode(list(ids)) == "12+30=?"


def test_prompts_of_the_spec_replace_the_built_in_ones(tokenizer, template):
    found = collect_sequences(tokenizer, template, prompts=["What is 1+2?", ""], tokenizer_vocab=426, max_context=64)
    assert [tokenizer.decode(list(ids)) for ids in found] == [
        f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n" for prompt in ("What is 1+2?", "")
    ]


@pytest.mark.parametrize("max_context", [2, 50])
def test_sequences_are_cut_to_the_engines_context(tokenizer, template, max_context):
    for given in (tokenizer, None):
        found = collect_sequences(given, template, prompts=None, tokenizer_vocab=426, max_context=max_context)
        assert max(ids.size for ids in found) == max_context


def test_without_a_tokenizer_tokens_are_random_live_and_the_same_each_time():
    first, second = (
        collect_sequences(None, None, prompts=None, tokenizer_vocab=300, max_context=4096) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    tokens = np.concatenate(first)
    assert tokens.min() >= 0
    assert 250 < tokens.max() < 300


def test_no_text_is_one_that_engines_are_validated_with():
    for question, answer in built_in():
        assert question not in PROMPTS
        assert answer[:40] not in TEXT
