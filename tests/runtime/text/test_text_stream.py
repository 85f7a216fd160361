"""Streamed text equals decoded text, and no character is ever split."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen3_runtime.text import StreamDecoder


def streamed(tokenizer, ids, skip):
    decoder = StreamDecoder(tokenizer, skip_special_tokens=skip)
    return [decoder.push(i) for i in ids] + [decoder.flush()]


def byte_tokens(tokenizer):
    """The id of the token of each single byte."""
    ids = {tokenizer.token_bytes(i): i for i in range(256)}
    return [ids[bytes([byte])] for byte in range(256)]


@settings(max_examples=400, deadline=None)
@given(ids=st.lists(st.integers(0, 151_940), max_size=30), skip=st.booleans())
def test_any_ids_stream_to_their_decoded_text(ids, skip, tokenizer):
    assert "".join(streamed(tokenizer, ids, skip)) == tokenizer.decode(ids, skip_special_tokens=skip)


@settings(max_examples=600, deadline=None)
@given(data=st.binary(max_size=24), special=st.booleans())
@example(data=b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf\xf0\x9f\x99", special=True)
def test_any_bytes_stream_to_their_decoded_text(data, special, tokenizer):
    of_byte = byte_tokens(tokenizer)
    ids = [of_byte[byte] for byte in data]
    if special:  # a special token in the midst of a character
        ids.insert(len(ids) // 2, 151_645)
    for skip in (True, False):
        assert "".join(streamed(tokenizer, ids, skip)) == tokenizer.decode(ids, skip_special_tokens=skip)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=30))
def test_valid_text_never_shows_a_replacement_character(text, tokenizer):
    of_byte = byte_tokens(tokenizer)
    pieces = streamed(tokenizer, [of_byte[byte] for byte in text.encode()], skip=True)
    assert [piece for piece in pieces if piece] == list(text)


def test_a_character_appears_with_its_last_byte(tokenizer):
    ids = tokenizer.encode("a🫨b")
    assert len(ids) > 3
    assert [piece for piece in streamed(tokenizer, ids, skip=True) if piece] == ["a", "🫨", "b"]


def test_special_tokens_have_no_text_unless_asked_for(tokenizer):
    end = tokenizer.token_id("<|im_end|>")
    assert StreamDecoder(tokenizer).push(end) == ""
    assert StreamDecoder(tokenizer, skip_special_tokens=False).push(end) == "<|im_end|>"


def test_flush_makes_the_decoder_ready_for_another_text(tokenizer):
    decoder = StreamDecoder(tokenizer)
    assert decoder.push(byte_tokens(tokenizer)[0xF0]) == ""
    assert decoder.flush() == "\ufffd"
    assert decoder.push(tokenizer.encode("b")[0]) == "b"
    assert decoder.flush() == ""


@pytest.mark.parametrize("length", [100_000])
def test_a_long_stream_costs_no_more_per_token(length, tokenizer):
    """The tokenizer is asked for the bytes of each token once, and never to decode a text."""
    ids = tokenizer.encode("word 字 🫨") * (length // 5)
    asked = []

    def token_bytes(token_id):
        asked.append(token_id)
        return tokenizer.token_bytes(token_id)

    pieces = streamed(SimpleNamespace(special_ids=tokenizer.special_ids, token_bytes=token_bytes), ids, skip=True)
    assert "".join(pieces) == "word 字 🫨" * (length // 5)
    assert asked == ids
