"""What the runtime would refuse of a tokenizer or a template is refused before a file of weights is opened.

Covers: faults of tokenizer, template and manifest, found before weights are opened or downloaded, with and without
    validation
Reference: the runtime's own readers
"""

from __future__ import annotations

import json
import shutil
import tempfile

import pytest
from tokenizers import Tokenizer, decoders, models

from qwen3_compile.errors import CheckpointError
from qwen3_runtime.directory import read_engine_directory
from qwen3_runtime.text import Tokenizer as RuntimeTokenizer


@pytest.fixture
def broken(checkpoints, tmp_path):
    """A copy of the dense checkpoint whose weights are no safetensors file: whoever opens them says so."""
    folder = shutil.copytree(checkpoints / "dense", tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"nothing")
    return folder


def configure(folder, **values):
    path = folder / "tokenizer_config.json"
    kept = {key: value for key, value in (json.loads(path.read_text()) | values).items() if value is not None}
    path.write_text(json.dumps(kept))


def without_bytes(folder):
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(path))


def with_token_beyond(folder):
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens([f"<filler{i}>" for i in range(12)])
    tokenizer.save(str(path))
    configure(folder, chat_template="{{ messages[0].content }}<filler11>")


def with_large_vocabulary(folder):
    Tokenizer(models.BPE(vocab={"a": 0, "b": 300}, merges=[])).save(str(folder / "tokenizer.json"))


FAULTS = {
    "syntax": (lambda f: configure(f, chat_template="{% for %}"), "chat template default, line 1"),
    "rendering": (lambda f: configure(f, chat_template="{{ messages[3].content }}"), "cannot render these messages"),
    "tools": (
        lambda f: configure(f, chat_template="{% if tools %}{{ tools[5].name }}{% endif %}"),
        "cannot render these messages",
    ),
    "no template": (lambda f: configure(f, chat_template=None), "no chat template, which a model for chat needs"),
    "template file": (lambda f: (f / "chat_template.jinja").write_text("{{"), "chat template default, line 1"),
    "token beyond": (with_token_beyond, r"writes '<filler11>', token 272, but the model has 272 embeddings"),
    "no configuration": (lambda f: (f / "tokenizer_config.json").unlink(), r"tokenizer_config\.json is missing"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"no tokenizer\.json"),
    "damaged": (lambda f: (f / "tokenizer.json").write_text("{"), r"broken/tokenizer\.json: not a tokenizer"),
    "no bytes": (without_bytes, "expected a ByteLevel decoder"),
    "vocabulary": (with_large_vocabulary, r"broken/tokenizer\.json: 301 tokens, but the model has 272 embeddings"),
    "end": (lambda f: (f / "generation_config.json").write_text('{"eos_token_id": 900}'), "eos_token_id is 900"),
}


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_before_the_weights(make, broken, tmp_path, fault, validate):
    damage, message = FAULTS[fault]
    damage(broken)
    with pytest.raises(CheckpointError, match=message) as caught:
        make(source=broken, options={"validate": validate})
    assert "\n" not in str(caught.value)
    told = str(caught.value).replace(str(tmp_path), "")
    assert f"/{tempfile.gettempprefix()}" not in told  # no place that only the build knew
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "cache"]


def test_the_weights_come_after(make, broken):
    with pytest.raises(CheckpointError, match="incomplete safetensors file"):
        make(source=broken, options={"validate": False})


def test_a_base_model_needs_no_template(make, spec_of, checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints / "dense", tmp_path / "base")
    configure(folder, chat_template=None)
    model = json.loads(spec_of(folder))["model"] | {"task": "completion"}
    info, _ = make(source=folder, model=model, chat={"max_tokens": 64}, options={"validate": False})
    assert (info.path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_declared_tokens_reach_the_runtime_and_a_locked_build(make, checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints / "dense", tmp_path / "declared")
    flags = {"lstrip": True, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    before = Tokenizer.from_file(str(folder / "tokenizer.json")).get_added_tokens_decoder()
    known = {str(i): {"content": t.content, "special": True, "normalized": False} for i, t in before.items()}
    configure(folder, added_tokens_decoder=known | {"261": {"content": "<new>", **flags}})
    info, _ = make(source=folder, options={"validate": False})
    manifest = read_engine_directory(info.path, verify="full")
    assert manifest.io.tokenizer_vocab_size == 262
    assert RuntimeTokenizer.open(info.path).encode("a <new>") == [64, 261]
    again, _ = make(source=folder, out="again", options={"validate": False, "locked": manifest})
    assert (again.path / "tokenizer.json").read_bytes() == (info.path / "tokenizer.json").read_bytes()
