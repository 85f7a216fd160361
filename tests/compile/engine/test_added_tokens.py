"""Tokens declared outside tokenizer.json get transformers' ids and flags; where there are none, no byte changes.

Covers: ids, flags, text; both tokenizer classes; refusals
Reference: `transformers`' AutoTokenizer on the same folder, with the released Qwen3 tokenizer
"""

from __future__ import annotations

import json
import shutil

import pytest
from tokenizers import Tokenizer

from qwen3_compile.engine.added_tokens import completed_tokenizer
from qwen3_compile.errors import CheckpointError

NEXT = 151669  # of the released tokenizer
TEXTS = (
    "a <new> b<new>c  <two>  d <extra><named>",
    "<|im_start|>user\n<two><|im_end|><extra>",
    "<NEW> < two > caf\u00e9<named>",
)


def token(content, **flags):
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": False}
    return {"content": content} | plain | flags


def declare(config, index, content, **flags):
    config["added_tokens_decoder"][str(index)] = token(content, **flags)


def by_id(config):
    declare(config, NEXT + 1, "<two>", rstrip=True, special=True)
    declare(config, NEXT, "<new>", lstrip=True)


def by_id_and_list(config):
    by_id(config)
    config["additional_special_tokens"] = [*config["additional_special_tokens"], "<extra>", "<tool_call>"]
    config["image_token"] = "<named>"  # noqa: S105 - a token, not a password


def by_role(config):
    config["sep_token"], config["extra_special_tokens"] = "<named>", {"voice_token": "<extra>"}


def other_flags(config):
    config["added_tokens_decoder"]["151667"]["special"] = True  # <think>
    config["added_tokens_decoder"]["151658"]["rstrip"] = True


def by_older_file(config):
    del config["added_tokens_decoder"]
    config["extra_special_tokens"] = ["<two>"]


def by_map(config):
    del config["added_tokens_decoder"]


OLDER = {"added_tokens.json": {"<new>": NEXT, "<two>": NEXT + 1, "<|im_start|>": 151644}}
MAP = {"special_tokens_map.json": {"mask_token": {"content": "<named>"}}}


@pytest.fixture
def write(qwen3_tokenizer_dir, tmp_path):
    def write(change, files=None, cls=None):
        folder = tmp_path / "tokenizer"
        folder.mkdir()
        shutil.copy(qwen3_tokenizer_dir / "tokenizer.json", folder)
        config = json.loads((qwen3_tokenizer_dir / "tokenizer_config.json").read_text())
        change(config)
        if cls:
            config["tokenizer_class"] = cls
        for name, document in {"tokenizer_config.json": config, **(files or {})}.items():
            (folder / name).write_text(json.dumps(document))
        return folder, {path.name: path for path in folder.iterdir()}

    return write


@pytest.mark.parametrize("cls", ["Qwen2Tokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize(
    ("change", "files"),
    [
        (by_id, {}),
        (by_id_and_list, {}),
        (by_role, {}),
        (other_flags, {}),
        (by_older_file, OLDER),
        (by_map, MAP),
    ],
)
def test_ids_flags_and_text_are_those_of_transformers(write, change, files, cls):
    from transformers import AutoTokenizer

    folder, assets = write(change, files, cls)
    expected = AutoTokenizer.from_pretrained(folder)
    found = Tokenizer.from_str(completed_tokenizer(assets)[1].decode())
    flags = {index: repr(added) for index, added in found.get_added_tokens_decoder().items()}
    assert flags == {index: repr(added) for index, added in expected.added_tokens_decoder.items()}
    for text in TEXTS:
        ids = found.encode(text, add_special_tokens=False).ids
        assert ids == expected(text, add_special_tokens=False)["input_ids"]
        for skip in (True, False):
            assert found.decode(ids, skip_special_tokens=skip) == expected.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("files", [{}, {"added_tokens.json": {"<|im_start|>": 151644}, "special_tokens_map.json": {}}])
def test_the_released_files_need_nothing(write, files):
    _, assets = write(lambda _: None, files)
    assert completed_tokenizer(assets)[1] is None


@pytest.mark.parametrize(
    ("change", "files", "message"),
    [
        (
            lambda config: declare(config, NEXT + 5, "<new>"),
            {},
            r"config.*'<new>' as token 151674, .* 151669",
        ),
        (lambda config: declare(config, 3, "<|im_end|>"), {}, r"'<\|im_end\|>' as token 3, .* 151645"),
        (by_older_file, {"added_tokens.json": {"<new>": 7}}, r"added_tokens\.json: declares '<new>' as token 7"),
        (by_older_file, {"added_tokens.json": {"<new>": "7"}}, r"added_tokens\.json: expected an object of ids"),
        (lambda config: config.update(added_tokens_decoder=[]), {}, "expected an object of tokens by id"),
        (lambda config: config["added_tokens_decoder"].update({"151669": {"special": True}}), {}, "expected a token"),
        (
            lambda config: declare(config, NEXT, "<new>", lstrip=1),
            {},
            "151669: expected a token with content",
        ),
        (lambda config: config.update(extra_special_tokens="<x>"), {}, "expected a list of tokens, found '<x>'"),
        (lambda config: config.update(eos_token=3), {}, "eos_token: expected a token"),
    ],
)
def test_what_cannot_be_added_is_named(write, change, files, message):
    _, assets = write(change, files)
    with pytest.raises(CheckpointError, match=message):
        completed_tokenizer(assets)
