"""What a lock compares, without a build: each difference is named, and nothing else is refused."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pytest

from qwen3_compile.errors import LockError
from qwen3_compile.pipeline.lock import (
    check_outcome,
    check_source,
    check_spec,
    check_target,
    check_tools,
    pinned_source,
)
from qwen3_compile.spec import parse_spec
from qwen3_runtime.manifest import EngineTarget, FileEntry

A, B = "a" * 64, "b" * 64


def files(**hashes):
    return {name.replace("_", "."): FileEntry(1, sha256) for name, sha256 in hashes.items()}


def engine(**fields):
    """What a lock reads of a manifest."""
    source = {"uri": "hf://a/b", "revision": "c0ffee", "files": [{"name": "w", "size": 1, "sha256": A}]}
    return SimpleNamespace(**{"tools": {}, "spec": {}, "source": source, "files": {}} | fields)


@pytest.mark.parametrize(
    ("source", "revision", "pinned"),
    [
        ("hf://a/b", "c0ffee", "hf://a/b@c0ffee"),
        ("hf://a/b@main", "c0ffee", "hf://a/b@c0ffee"),
        ("hf://a/b@main", None, "hf://a/b@main"),
        ("folder@main", "c0ffee", "folder@main"),
        ("synthetic://1", None, "synthetic://1"),
    ],
)
def test_a_source_on_the_hub_is_pinned_to_the_engines_commit(source, revision, pinned):
    assert pinned_source(engine(source={"revision": revision}), source) == pinned
    assert pinned_source(engine(source={}), source) == source


def test_tools_that_are_the_same_pass_and_all_others_are_named_in_order():
    here = {"b": "1", "a": "1", "new": "3", "same": "5"}
    check_tools(engine(tools=here), here)
    with pytest.raises(LockError) as caught:
        check_tools(engine(tools={"b": "2", "a": "2", "gone": "4", "same": "5"}), here)
    assert str(caught.value) == (
        "the engine was built with other tools: a 2 (here 1), b 2 (here 1), gone 4 (here absent), new absent (here 3); "
        "install those versions"
    )


@pytest.fixture
def resolved(spec_of):
    return parse_spec(spec_of("synthetic://1")).resolved()


def test_the_same_spec_passes(resolved):
    check_spec(engine(spec=json.loads(json.dumps(resolved))), resolved)


def test_a_spec_of_an_older_schema_is_compared_in_the_present_one(resolved):
    older = json.loads(json.dumps(resolved)) | {"schema_version": 1}
    assert older["target"].pop("plugins") == "all"
    older["target"]["backend"] = "ort-cpu"
    check_spec(engine(spec=older), resolved)


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("limits", "max_batch", 3, "limits.max_batch is 3, the engine was built with 2"),
        ("limits", "extra", 3, "limits.extra is 3, the engine was built with None"),
        ("chat", None, None, "chat is None, the engine was built with {"),
    ],
)
def test_the_first_key_that_differs_is_named(resolved, section, key, value, said):
    other = copy.deepcopy(resolved)
    if key is None:
        other[section] = value
    else:
        other[section][key] = value
    other["precision"]["kv_cache"] = "other"  # which comes after them
    with pytest.raises(LockError) as caught:
        check_spec(engine(spec=resolved), other)
    assert str(caught.value).startswith(f"the spec differs from the engine's: {said}")
    assert str(caught.value).endswith("; omit the spec to build the engine's own")


def source(**hashes):
    return {"uri": "hf://a/b@c0ffee", "files": [{"name": name, "sha256": sha256} for name, sha256 in hashes.items()]}


def test_the_same_source_and_text_pass_whatever_else_the_engine_has():
    made = files(model_onnx=A, weights_bin=A, model_plan=A, accuracy_json=A, report_html=A)
    check_source(engine(files=made | files(tokenizer_json=B)), source(w=A), files(tokenizer_json=B))


@pytest.mark.parametrize(
    ("found", "assets", "said"),
    [
        (source(w=B), files(tokenizer_json=B), f"hf://a/b@c0ffee: w has changed: expected SHA-256 {A}, found {B}"),
        (source(), files(tokenizer_json=B), "hf://a/b@c0ffee: w is missing; the engine was built with one"),
        (source(w=A, x=A), files(tokenizer_json=B), "hf://a/b@c0ffee: x is new; the engine was built without one"),
        (source(w=A), {}, "tokenizer files: tokenizer.json is missing; the engine was built with one"),
        (source(w=A), files(tokenizer_json=A), f"tokenizer files: tokenizer.json has changed: expected SHA-256 {B}"),
        (
            source(w=A),
            files(tokenizer_json=B, x_json=A),
            "tokenizer files: x.json is new; the engine was built without",
        ),
    ],
)
def test_what_differs_of_the_source_or_the_text_is_named(found, assets, said):
    with pytest.raises(LockError) as caught:
        check_source(engine(files=files(tokenizer_json=B, model_onnx=A)), found, assets)
    assert str(caught.value).startswith(said)


def test_files_that_follow_from_the_inputs_must_be_the_engines():
    locked = engine(files=files(model_onnx=A, weights_bin=A))
    assert check_outcome(locked, files(model_onnx=A, weights_bin=A)) == []
    with pytest.raises(LockError, match=r"^the build differs from the engine: weights\.bin has changed"):
        check_outcome(locked, files(model_onnx=A, weights_bin=B))
    with pytest.raises(LockError, match=r"^the build differs from the engine: weights\.bin is missing"):
        check_outcome(locked, files(model_onnx=A))
    with pytest.raises(LockError, match=r"^the build differs from the engine: x is new"):
        check_outcome(locked, files(model_onnx=A, weights_bin=A, x=A))


def test_measured_files_and_plans_may_differ_and_are_told():
    measured = files(accuracy_json=A, report_html=A, model_plan=A)
    locked = engine(files=files(model_onnx=A) | measured)
    assert check_outcome(locked, files(model_onnx=A, accuracy_json=B, report_html=B, model_plan=B)) == [
        "accuracy.json",
        "report.html",
        "model.plan",
    ]
    assert check_outcome(locked, files(model_onnx=A, accuracy_json=A, report_html=B)) == ["report.html"]
    assert check_outcome(engine(files=files(model_onnx=A)), files(model_onnx=A) | measured) == []
    assert check_outcome(locked, files(model_onnx=A) | measured) == []


@pytest.mark.parametrize(
    ("backend", "plugins"), [("ort-cpu", "all"), ("onnx", "all"), ("ort", "none"), ("ort", ("attention",))]
)
def test_a_manifest_whose_target_is_not_its_specs_is_refused(resolved, backend, plugins):
    target = parse_spec(json.dumps(resolved)).target
    check_target(engine(target=EngineTarget("ort", "cpu", "all")), target)
    with pytest.raises(LockError, match=f"the manifest's target is {backend} on cpu .* the manifest was changed"):
        check_target(engine(target=EngineTarget(backend, "cpu", plugins)), target)
