"""The manifest is read strictly: what its schema version does not define is refused in one line."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_runtime import EngineError
from qwen3_runtime.manifest import MAX_FILES, MAX_MANIFEST_BYTES, READABLE_VERSIONS, SCHEMA_VERSION, parse_manifest

HASH = "0123456789abcdef" * 4
GOOD: dict[str, Any] = {
    "schema_version": 3,
    "name": "qwen3-0.6b",
    "verified": True,
    "spec": {"anything": [1, 2]},
    "source": {"uri": "hf://Qwen/Qwen3-0.6B", "revision": None, "files": []},
    "tools": {"onnxruntime": "1.31.1"},
    "target": {"backend": "ort", "provider": "cpu", "plugins": "none"},
    "io": {
        "task": "chat",
        "output": "logits",
        "vocab_size": 151936,
        "tokenizer_vocab_size": 151669,
        "hidden_size": 1024,
        "layers": 28,
        "kv_heads": 8,
        "head_dim": 128,
        "cache_dtype": "float32",
        "max_context": 40960,
        "max_batch": 4,
        "max_step_tokens": 512,
    },
    "chat": {
        "thinking": "hybrid",
        "thinking_budget": 8192,
        "max_tokens": 32768,
        "sampling": {"thinking": {"temperature": 0.6, "top_k": 20}, "non_thinking": {"temperature": 0.7}},
    },
    "eos_token_ids": [151645, 151643],
    "pad_token_id": 151643,
    "files": {"model.onnx": {"size": 5, "sha256": HASH}, "weights.bin": {"size": 0, "sha256": HASH}},
}
MISSING = object()


def changed(path: str, value: object) -> bytes:
    """The good manifest with one place changed, added or removed."""
    document = copy.deepcopy(GOOD)
    *parents, last = path.split("/")
    place = document
    for parent in parents:
        place = place[parent]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document).encode()


def test_a_good_manifest_is_read_as_it_is() -> None:
    manifest = parse_manifest(json.dumps(GOOD).encode())
    assert (manifest.name, manifest.verified) == ("qwen3-0.6b", True)
    assert (manifest.target.backend, manifest.target.provider) == ("ort", "cpu")
    assert {name: getattr(manifest.io, name) for name in GOOD["io"]} == GOOD["io"]
    assert manifest.chat is not None
    assert (manifest.chat.thinking, manifest.chat.thinking_budget) == ("hybrid", 8192)
    assert manifest.chat.sampling == GOOD["chat"]["sampling"]
    assert manifest.eos_token_ids == (151645, 151643)
    assert (manifest.files["model.onnx"].size, manifest.files["model.onnx"].sha256) == (5, HASH)
    assert manifest.spec == GOOD["spec"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("chat", None),
        ("pad_token_id", None),
        ("chat/thinking_budget", None),
        ("eos_token_ids", []),
        ("eos_token_ids", [0, 151935]),
    ],
)
def test_what_an_engine_may_lack(path: str, value: object) -> None:
    parse_manifest(changed(path, value))


@pytest.mark.parametrize(
    ("place", "least", "most"),
    [
        ("io/vocab_size", 151669, 2**31),
        ("io/tokenizer_vocab_size", 1, 151936),
        *((f"io/{name}", 1, 4096) for name in ("layers", "kv_heads", "head_dim")),
        *((f"io/{name}", 1, 2**31) for name in ("hidden_size", "max_context", "max_step_tokens")),
        ("io/max_batch", 1, 65536),
        ("pad_token_id", 0, 151935),
        ("chat/thinking_budget", 0, 2**31),
        ("chat/max_tokens", 1, 2**31),
        ("files/model.onnx/size", 0, 2**43),
    ],
)
def test_the_bounds_of_an_integer_are_within_them(place: str, least: int, most: int) -> None:
    for value in (least, most):
        parse_manifest(changed(place, value))
    for value in (least - 1, most + 1):
        with pytest.raises(EngineError, match=f"{place.rsplit('/', 1)[-1]} must be"):
            parse_manifest(changed(place, value))


@pytest.mark.parametrize("count", [0, 1, MAX_FILES])
def test_an_engine_has_as_many_files_as_are_allowed_with_names_as_file_systems_take_them(count: int) -> None:
    names = ["f", "x" * 255, *(f"f{index}" for index in range(count))][:count]
    files = {name: {"size": 1, "sha256": HASH} for name in names}
    assert set(parse_manifest(changed("files", files)).files) == set(names)
    with pytest.raises(EngineError, match="not a plain file name"):
        parse_manifest(changed("files", {"x" * 256: {"size": 1, "sha256": HASH}}))


def test_a_manifest_is_as_long_as_is_allowed() -> None:
    raw = json.dumps(GOOD).encode()
    assert MAX_MANIFEST_BYTES == 4 * 1024 * 1024
    parse_manifest(raw.ljust(MAX_MANIFEST_BYTES))
    with pytest.raises(EngineError, match=f"{MAX_MANIFEST_BYTES + 1} bytes, more than the {MAX_MANIFEST_BYTES}"):
        parse_manifest(raw.ljust(MAX_MANIFEST_BYTES + 1))


def test_the_version_that_is_written_is_the_newest_that_is_read() -> None:
    assert max(READABLE_VERSIONS) == SCHEMA_VERSION == GOOD["schema_version"]


def every_place(document: dict[str, Any], prefix: str = "") -> list[str]:
    places = []
    for key, value in document.items():
        if prefix in ("spec/", "source/", "tools/", "files/", "chat/sampling/"):
            continue
        places.append(prefix + key)
        if isinstance(value, dict):
            places.extend(every_place(value, f"{prefix}{key}/"))
    return places


@pytest.mark.parametrize("place", [place for place in every_place(GOOD) if not place.startswith("chat/sampling/")])
def test_a_missing_field_is_named(place: str) -> None:
    with pytest.raises(EngineError, match=rf"field '{place.rsplit('/', 1)[-1]}' is missing"):
        parse_manifest(changed(place, MISSING))


@pytest.mark.parametrize("place", ["surprise", "io/surprise", "target/surprise", "chat/surprise", "chat/sampling/x"])
def test_an_unknown_field_is_named(place: str) -> None:
    with pytest.raises(EngineError, match=rf"unknown field '{place.rsplit('/', 1)[-1]}'"):
        parse_manifest(changed(place, {}))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("schema_version", 1, "schema_version is 1, this runtime reads 2 and 3; rebuild"),
        ("schema_version", 4, "schema_version is 4, this runtime reads 2 and 3; rebuild"),
        ("schema_version", True, "schema_version is True"),
        ("schema_version", "1", "schema_version is '1'"),
        ("name", "", "name must be a non-empty string"),
        ("verified", "yes", "verified must be"),
        ("target", [], "target: expected an object, found a list"),
        ("target/backend", None, "backend must be a non-empty string"),
        ("io/task", "poetry", "task must be one of chat"),
        ("io/task", ["chat"], "task must be one of chat"),
        ("io/output", "probabilities", "output must be one of logits, hidden"),
        ("io/vocab_size", 0, "vocab_size must be an integer from 1"),
        ("io/vocab_size", 1.5, "vocab_size must be an integer from 1"),
        ("io/layers", -1, "layers must be an integer from 1"),
        ("io/layers", True, "layers must be an integer from 1"),
        ("io/layers", 10**9, "layers must be an integer from 1 to 4096"),
        ("io/tokenizer_vocab_size", 151937, "tokenizer_vocab_size must be an integer from 1 to 151936"),
        ("io/max_context", 2**40, "max_context must be an integer"),
        ("io/cache_dtype", "float64", "cache_dtype must be one of"),
        ("chat/thinking", "sometimes", "thinking must be one of hybrid, always, never"),
        ("chat/thinking_budget", -1, "thinking_budget must be an integer from 0"),
        ("chat/sampling", {"thinking": {"temperature": "hot"}}, "thinking.temperature: expected a number"),
        ("eos_token_ids", [151936], "list of token ids below 151936"),
        ("eos_token_ids", [-1], "list of token ids below 151936"),
        ("eos_token_ids", 5, "list of token ids"),
        ("eos_token_ids", [True], "list of token ids"),
        ("files/model.onnx/size", -1, "size must be an integer from 0"),
        ("files/model.onnx/sha256", "abc", "sha256 must be 64 lower-case hex digits"),
        ("files/model.onnx/sha256", HASH.upper(), "sha256 must be 64 lower-case hex digits"),
        ("io/output", "hidden", "chat: a chat engine must output logits, this one gives 'hidden'"),
        ("files/model.onnx/digest", "x", "files: model.onnx: unknown field 'digest'"),
        ("files", {f"f{i}": {"size": 1, "sha256": HASH} for i in range(MAX_FILES + 1)}, "65 files, more than"),
    ],
)
def test_a_value_out_of_range_is_named(place: str, value: object, message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        parse_manifest(changed(place, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["../model.onnx", "/etc/passwd", "a/b", "a\\b", "..", ".", "", ".hidden", "manifest.json", "C:x", "a\x00b", "a\nb"],
)
def test_a_file_name_that_leaves_the_directory_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match="not a plain file name"):
        parse_manifest(changed("files", {name: {"size": 1, "sha256": HASH}}))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "expected an object, found a list"),
        (b"null", "expected an object, found null"),
        (b'{"name": 1, "name": 2}', "key 'name' appears twice"),
        (b'{"a": 1, "name": 1, "b": 1, "name": 2, "c": 1}', "key 'name' appears twice"),
        (b"[" * 200_000, "not valid JSON"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "more than the"),
    ],
)
def test_bytes_that_are_no_manifest_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        parse_manifest(raw)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_no_value_anywhere_escapes_as_another_error(value: object) -> None:
    for place in every_place(GOOD):
        try:
            parse_manifest(changed(place, value))
        except EngineError:
            continue


TENSORRT = {
    "backend": "tensorrt-rtx",
    "provider": "cuda",
    "compute_capabilities": ["8.9", "12.0"],
    "plugins": ["attention"],
    "profiles": {"prefill_batch": 1},
}


def test_a_tensorrt_target_says_for_which_gpus_and_with_which_plugins() -> None:
    target = parse_manifest(changed("target", TENSORRT)).target
    assert target.compute_capabilities == ("8.9", "12.0")
    assert (target.has_plan, target.has_plugins) == (True, True)
    assert (target.has_plugin("attention"), target.has_plugin("moe")) == (True, False)
    for key in ("compute_capabilities", "profiles"):  # other targets may have them as null
        assert not parse_manifest(changed(f"target/{key}", None)).target.has_plan


def before(**target: object) -> bytes:
    """The good manifest as version 2 has it."""
    document = copy.deepcopy(GOOD) | {"schema_version": 2, "target": {"provider": "cpu"} | target}
    document["io"]["live_vocab_size"] = document["io"].pop("tokenizer_vocab_size")
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("target", "backend", "plugins"),
    [
        ({"backend": "ort-cpu"}, "ort", "all"),
        ({"backend": "ort"}, "ort", "none"),
        ({"backend": "onnx", "activation_quantization": "int8"}, "onnx", "none"),
        ({"backend": "tensorrt-rtx", "attention": "native"}, "tensorrt-rtx", "none"),
        ({"backend": "tensorrt-rtx", "attention": "plugin", "moe": "native"}, "tensorrt-rtx", ("attention",)),
        ({"backend": "tensorrt", "attention": "plugin", "moe": "plugin"}, "tensorrt", ("attention", "moe")),
    ],
)
def test_the_version_before_is_read(target: dict[str, object], backend: str, plugins: object) -> None:
    gpu = {"provider": "cuda", "compute_capabilities": ["8.9"]} if "tensorrt" in backend else {}
    manifest = parse_manifest(before(**target, **gpu))
    assert (manifest.target.backend, manifest.target.plugins) == (backend, plugins)
    assert manifest.io.tokenizer_vocab_size == GOOD["io"]["tokenizer_vocab_size"]


def test_old_names_are_unknown_today_and_checked_in_the_version_before() -> None:
    with pytest.raises(EngineError, match="unknown field 'live_vocab_size'"):
        parse_manifest(changed("io/live_vocab_size", 5))
    with pytest.raises(EngineError, match="target: attention must be one of native, plugin, found 'fused'"):
        parse_manifest(before(backend="tensorrt", attention="fused"))


@pytest.mark.parametrize(
    ("section", "name", "value"), [("target", "plugins", "all"), ("io", "tokenizer_vocab_size", 5)]
)
def test_a_name_of_this_version_in_the_version_before_is_refused(section: str, name: str, value: object) -> None:
    document = json.loads(before(backend="ort"))
    document[section][name] = value
    with pytest.raises(EngineError, match=f"{section}: unknown field '{name}' in a manifest of version 2"):
        parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compute_capabilities": []}, "compute_capabilities must name a GPU architecture"),
        ({"compute_capabilities": [89]}, "compute_capabilities must be a list of strings"),
        ({"plugins": "some"}, "plugins must be one of all, none"),
        ({"plugins": ["fused"]}, "plugins must be among attention, moe, found 'fused'"),
        ({"plugins": [1]}, "plugins must be a list of strings"),
        ({"plugins": []}, "plugins must name at least one"),
        ({"profiles": 3}, "expected an object"),
        ({"streams": 2}, "unknown field 'streams'"),
    ],
)
def test_a_tensorrt_target_that_does_not_hold_together_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        parse_manifest(changed("target", TENSORRT | change))
