"""The tokenizer gives transformers' ids and text.

Reference: `transformers` with the released Qwen3 tokenizer
"""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_runtime.errors import EngineError, RequestError
from qwen3_runtime.text import Tokenizer

CORPUS = {
    "plain": "The quick brown fox jumps over the lazy dog.",
    "composed and decomposed": "caf\u00e9 cafe\u0301 \u1112\u1161\u11ab \u212b A\u030a",
    "emoji": "\U0001f642 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd",
    "cjk": "你好、世界。こんにちは世界 안녕하세요 𠮷野家",
    "right to left": "שלום עולם مرحبا بالعالم",
    "whitespace": "  a\t\tb \n\n  c\r\n\r\nd\u00a0e\u2003f   ",
    "digits": "3.14159 1234567890 0x1F 1,000,000 ٣٤٥ Ⅻ ½",
    "contractions": "I'm you're it'S we'LL they'd DON'T",
    "code": "def f(x: int) -> int:\n\treturn {k: v for k in x}  # done\n\n\nif __name__ == '__main__':\n    f(1)\n",
    "latex": r"\frac{a}{b} = \sum_{i=0}^{n} x_i^2 \quad \therefore",
    "chat": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "tools": '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><tool_response>1</tool_response>',
    "nearly special": "<|im_start| > < |im_end|> <|im_start <think </think>> <|unknown|>",
    "controls": "\x00\x01\x7f\x80\ufeff\ufffd\u200b",
    "empty": "",
}


@pytest.mark.parametrize("name", CORPUS)
def test_encodes_as_transformers(name, tokenizer, reference):
    assert tokenizer.encode(CORPUS[name]) == reference(CORPUS[name], add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("skip", [True, False])
def test_decodes_as_transformers(name, skip, tokenizer, reference):
    ids = tokenizer.encode(CORPUS[name])
    assert tokenizer.decode(ids, skip_special_tokens=skip) == reference.decode(ids, skip_special_tokens=skip)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60))
def test_encodes_any_text_as_transformers(text, tokenizer, reference):
    assert tokenizer.encode(text) == reference(text, add_special_tokens=False)["input_ids"]


def test_special_ids_are_those_of_the_release(tokenizer, reference):
    assert tokenizer.special_ids == set(reference.all_special_ids) == set(range(151_643, 151_657))
    assert tokenizer.named_tokens == reference.special_tokens_map


def test_token_ids_are_those_of_the_release(tokenizer):
    expected = {"<|endoftext|>": 151_643, "<|im_end|>": 151_645, "<think>": 151_667, "</think>": 151_668}
    assert {token: tokenizer.token_id(token) for token in expected} == expected
    assert tokenizer.token_id("<|no such token|>") is None


def test_think_tags_survive_when_special_tokens_are_skipped(tokenizer):
    ids = tokenizer.encode("<think>a</think><|im_end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>a</think>"


def test_every_token_decodes_to_its_bytes(tokenizer, reference):
    for token_id in range(len(reference)):
        expected = reference.decode([token_id], skip_special_tokens=False)
        assert tokenizer.token_bytes(token_id).decode(errors="replace") == expected


def test_ids_without_a_token_have_no_text(tokenizer):
    unknown = [-1, 151_669, 151_935, 2**31]
    assert [tokenizer.token_bytes(i) for i in unknown] == [b""] * 4
    assert tokenizer.decode([*unknown[:3], *tokenizer.encode("a")]) == "a"


def test_refuses_text_that_utf8_cannot_represent(tokenizer):
    with pytest.raises(RequestError, match="UTF-8"):
        tokenizer.encode("a\ud800")


def test_names_the_missing_file(tmp_path, qwen3_tokenizer_dir):
    with pytest.raises(EngineError, match=r"tokenizer\.json is missing"):
        Tokenizer.open(tmp_path)
    shutil.copy(qwen3_tokenizer_dir / "tokenizer.json", tmp_path)
    with pytest.raises(EngineError, match=r"tokenizer_config\.json is missing"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"model"', "[" * 100_000])
def test_refuses_damaged_files(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(EngineError, match=r"tokenizer\.json"):
        Tokenizer.open(tmp_path)


def test_refuses_a_tokenizer_that_is_not_byte_level(tmp_path):
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(EngineError, match="ByteLevel"):
        Tokenizer.open(tmp_path)


def test_truncation_and_padding_saved_with_a_tokenizer_are_ignored(tmp_path, qwen3_tokenizer_dir, tokenizer):
    saved = json.loads((qwen3_tokenizer_dir / "tokenizer.json").read_text(encoding="utf-8"))
    saved["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    shutil.copy(qwen3_tokenizer_dir / "tokenizer_config.json", tmp_path)
    text = CORPUS["plain"]
    assert Tokenizer.open(tmp_path).encode(text) == tokenizer.encode(text)
