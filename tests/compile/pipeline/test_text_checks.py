"""What logits do not show: a chat engine stops, an embedding is pooled at its token, a reranker is asked right."""

from __future__ import annotations

import json
import shutil

import pytest
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from qwen3_compile.engine.tokens import open_tokenizer
from qwen3_compile.errors import CheckpointError
from qwen3_compile.pipeline.text_assets import checked_text
from qwen3_compile.spec import parse_spec
from qwen3_runtime.text import Tokenizer as RuntimeTokenizer

END, TURN_END = 256, 258  # <|endoftext|>, <|im_end|>
BASE = {"eos_token": "<|endoftext|>"}


@pytest.fixture
def folder(checkpoints, tmp_path):
    """The text files of the dense checkpoint, to be changed; the weights stay away."""
    made = tmp_path / "text"
    made.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(checkpoints / "dense" / name, made / name)
    return made


@pytest.fixture
def check(folder, spec_of):
    def check(task="chat", **sections):
        document = json.loads(spec_of(folder, **sections))
        document["model"]["task"] = task
        if task != "chat":
            document.pop("chat")
        return checked_text(parse_spec(json.dumps(document)), {path.name: path for path in folder.iterdir()})

    return check


def configure(folder, generation=None, **values):
    path = folder / "tokenizer_config.json"
    kept = {key: value for key, value in (json.loads(path.read_text()) | values).items() if value is not None}
    path.write_text(json.dumps(kept))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))


def test_an_end_that_is_known_is_left_alone(folder, check):
    before = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    found = check()
    assert found.tokens.eos_token_ids == tuple(before)
    assert found.notes == ()


@pytest.mark.parametrize("generation", [{"eos_token_id": END}, {"eos_token_id": []}, {"eos_token_id": None}, {}])
@pytest.mark.parametrize("eos", [BASE, {"eos_token": None}])
def test_what_ends_a_reply_in_the_template_ends_a_generation(folder, check, generation, eos):
    """A fine-tune of a base model: `<|endoftext|>` alone, or nothing, is named as the end."""
    configure(folder, generation, **eos)
    found = check()
    assert found.tokens.eos_token_ids[0] == TURN_END
    assert (END in found.tokens.eos_token_ids) == (eos == BASE or generation.get("eos_token_id") == END)
    (note,) = found.notes
    assert note == "<|im_end|> ends a reply in the chat template and was added to the end tokens"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rendered = tokenizer.apply_chat_template(turn, tokenize=True, return_dict=False)
    assert rendered[rendered.index(tokenizer.convert_tokens_to_ids("b"), -4) + 1] == TURN_END


def test_the_tokenizers_own_end_counts_beside_that_of_generation_config(folder, check):
    configure(folder, {"eos_token_id": END})
    assert check().tokens.eos_token_ids == (END, TURN_END)
    assert check().notes == ()


def test_the_manifest_and_the_build_say_so(make, checkpoints, tmp_path):
    source = shutil.copytree(checkpoints / "dense", tmp_path / "base")
    configure(source, {"eos_token_id": END}, **BASE)
    info, record = make(source=source, options={"validate": False})
    assert info.manifest["eos_token_ids"] == [TURN_END, END]
    assert "<|im_end|> ends a reply in the chat template" in record.outcomes["checkpoint"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"chat_template": "{% for m in messages %}{{ m.content }}\n###\n{% endfor %}"},
            r"ends a reply with '\\n###\\n'",
        ),
        ({"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}, "ends a reply with ''"),
        ({"chat_template": "{{ messages[0].content }}<|im_end|>"}, "drops the assistant's replies"),
    ],
)
def test_a_chat_engine_that_cannot_stop_is_refused(folder, check, values, message):
    configure(folder, **values)
    with pytest.raises(CheckpointError, match=message) as caught:
        check()
    assert "\n" not in str(caught.value)


def test_the_released_template_needs_no_addition(qwen3_tokenizer_dir, spec_of):
    document = json.loads(spec_of(qwen3_tokenizer_dir))
    document["model"]["architecture"]["vocab_size"] = 151_936
    assets = {name: qwen3_tokenizer_dir / name for name in ("tokenizer.json", "tokenizer_config.json")}
    found = checked_text(parse_spec(json.dumps(document)), assets)
    assert found.tokens.eos_token_ids == (151_645,)
    assert found.notes == ()


@pytest.mark.parametrize("extra", [None, "<tool_call>"])
def test_the_tokenizer_is_parsed_once_and_once_more_where_tokens_are_added(folder, check, monkeypatch, extra):
    if extra is not None:
        configure(folder, extra_special_tokens=[extra])
    parsed = []

    def counted(path):
        parsed.append(path)
        return open_tokenizer(path)

    for module in ("engine.added_tokens", "engine.tokens", "pipeline.text_assets"):
        monkeypatch.setattr(f"qwen3_compile.{module}.open_tokenizer", counted)
    monkeypatch.setattr("qwen3_runtime.text.tokenizer._read_backend", counted)
    assert (check().tokenizer is None) == (extra is None)
    assert len(parsed) == (1 if extra is None else 2)


def append(folder, token):
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {token}", special_tokens=[(token, tokenizer.token_to_id(token))]
    )
    tokenizer.save(str(path))


def test_an_embedding_needs_the_token_that_is_pooled(folder, check):
    with pytest.raises(
        CheckpointError, match=r"ends a text with 'o', expected a special token such as <\|endoftext\|>"
    ):
        check("embedding")
    append(folder, "<|endoftext|>")
    assert check("embedding").notes == ()
    ids = RuntimeTokenizer.open(folder).encode("Hello", add_special_tokens=True)
    assert ids == AutoTokenizer.from_pretrained(folder)("Hello")["input_ids"]
    assert ids[-1] == END


def test_an_ordinary_token_behind_a_text_is_not_what_is_pooled(folder, check):
    append(folder, "a")
    with pytest.raises(CheckpointError, match="ends a text with 'a'"):
        check("embedding")


def test_a_reranker_needs_its_words_and_its_template(folder, check, qwen3_tokenizer_dir, spec_of):
    with pytest.raises(CheckpointError, match="the tokenizer has no token yes, no, which a reranker is asked with"):
        check("reranker")
    configure(folder, chat_template=None)
    with pytest.raises(CheckpointError, match="no chat template, which a model for reranker needs"):
        check("reranker")
    document = json.loads(spec_of(qwen3_tokenizer_dir))
    document["model"] |= {
        "task": "reranker",
        "architecture": document["model"]["architecture"] | {"vocab_size": 151_936},
    }
    document.pop("chat")
    assets = {name: qwen3_tokenizer_dir / name for name in ("tokenizer.json", "tokenizer_config.json")}
    assert checked_text(parse_spec(json.dumps(document)), assets).notes == ()
    own = folder / "own"
    own.mkdir()
    for path in assets.values():
        shutil.copy(path, own / path.name)
    configure(own, chat_template="{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    found = checked_text(parse_spec(json.dumps(document)), {path.name: path for path in own.iterdir()})
    assert found.notes[0].startswith("the chat template differs from the prompt of Qwen3-Reranker's model card")
