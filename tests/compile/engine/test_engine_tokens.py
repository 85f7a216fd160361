"""Facts about the vocabulary, read from the files that a release has."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models

from qwen3_compile.engine.tokens import Tokens, read_tokens
from qwen3_compile.errors import CheckpointError

VOCABULARY = {"a": 0, "b": 1, "c": 2}


def write(folder, *, generation=None, config=None, special=("<|endoftext|>", "<|im_end|>"), damaged=None):
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="a"))  # noqa: S106 - a token, not a password
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(folder / "tokenizer.json"))
    documents = {"generation_config.json": generation, "tokenizer_config.json": config}
    for name, document in documents.items():
        if document is not None:
            (folder / name).write_text(json.dumps(document))
    if damaged:
        (folder / damaged).write_text("{")
    return {path.name: path for path in folder.iterdir()}


def test_without_a_tokenizer_every_row_is_live():
    assert read_tokens({}, 512) == Tokens(512)


def test_added_tokens_count_and_padding_rows_do_not(tmp_path):
    assert read_tokens(write(tmp_path), 64).tokenizer_vocab_size == len(VOCABULARY) + 2


@pytest.mark.parametrize(("stated", "expected"), [([4, 3], (4, 3, 0)), (4, (4, 0)), ([4, 0], (4, 0)), ([], (0,))])
def test_the_end_is_what_generation_config_and_the_tokenizer_name(tmp_path, stated, expected):
    assets = write(tmp_path, generation={"eos_token_id": stated, "pad_token_id": 3}, config={"eos_token": "a"})
    assert read_tokens(assets, 64) == Tokens(5, expected, 3)


@pytest.mark.parametrize("form", ["<|im_end|>", {"content": "<|im_end|>", "special": True}])
def test_tokenizer_config_is_asked_when_generation_config_is_silent(tmp_path, form):
    assets = write(tmp_path, config={"eos_token": form, "pad_token": "<|endoftext|>"})
    assert read_tokens(assets, 64) == Tokens(5, (4,), 3)


def test_special_tokens_behind_the_matrix_are_not_live(tmp_path):
    assert read_tokens(write(tmp_path), 4).tokenizer_vocab_size == 4


@pytest.mark.parametrize("vocab_size", [1, 2])
def test_a_larger_models_tokenizer_is_refused(tmp_path, vocab_size):
    with pytest.raises(CheckpointError, match="another model's"):
        read_tokens(write(tmp_path), vocab_size)


@pytest.mark.parametrize("stated", [64, -1, "4", True, [3, 99]])
def test_ends_outside_the_vocabulary_are_refused(tmp_path, stated):
    with pytest.raises(CheckpointError, match="eos_token_id"):
        read_tokens(write(tmp_path, generation={"eos_token_id": stated}), 64)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    with pytest.raises(CheckpointError, match=name):
        read_tokens(write(tmp_path, damaged=name), 64)
