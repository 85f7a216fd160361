"""What is wrong with a spec is said with its line, what was expected, what was found, and the nearest key."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minimal_spec import MINIMAL, error, errors
from ruamel.yaml import YAML

from qwen3_compile.errors import SpecError
from qwen3_compile.spec import Spec, spec_from_mapping
from qwen3_compile.spec.problems import all_keys
from qwen3_graphs.formats import KINDS

WEIGHTS = re.sub(", ([^,]*)$", r" or \1", ", ".join(map(repr, KINDS)))


def test_lists_every_error_with_its_line():
    text = MINIMAL.replace("hidden_size: 256", "hidden_sise: 256").replace("weights: int4", "weights: int5")
    assert errors(text=text) == [
        "dir/tiny.yaml:5: model.architecture.hidden_size: required but missing",
        "dir/tiny.yaml:7: model.architecture.hidden_sise: unknown key; did you mean hidden_size?",
        f"dir/tiny.yaml:18: precision.weights: expected {WEIGHTS}, found 'int5'",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "vocab_size: 1000",
            "vocab_size: '1000'",
            ":6: model.architecture.vocab_size: expected an integer, found '1000'",
        ),
        (
            "vocab_size: 1000",
            "vocab_size: 1000.0",
            ":6: model.architecture.vocab_size: expected an integer, found 1000.0",
        ),
        ("vocab_size: 1000", "vocab_size: true", ":6: model.architecture.vocab_size: expected an integer, found true"),
        ("vocab_size: 1000", "vocab_size: 0", ":6: model.architecture.vocab_size: expected at least 1, found 0"),
        ("vocab_size: 1000", "vocab_size:", ":6: model.architecture.vocab_size: expected an integer, found null"),
        (
            "vocab_size: 1000",
            "vocab_size: 3000000000",
            ":6: model.architecture.vocab_size: expected at most 2147483647",
        ),
        (
            "rope_theta: 1e6",
            "rope_theta: .inf",
            ":14: model.architecture.rope_theta: expected a finite number, found inf",
        ),
        (
            "rope_theta: 1e6",
            "rope_theta: .nan",
            ":14: model.architecture.rope_theta: expected a finite number, found nan",
        ),
        ("rope_theta: 1e6", "rope_theta: big", ":14: model.architecture.rope_theta: expected a number, found 'big'"),
        (
            "tie_word_embeddings: true",
            "tie_word_embeddings: yes",
            ":15: model.architecture.tie_word_embeddings: expected true or false",
        ),
        ("name: tiny", "name: ../x", ":2: name: expected a name that matches"),
        ("max_context: 2048", "max_context: 1", ":20: limits.max_context: expected at least 2, found 1"),
        ("name: tiny", "name: 3", ":2: name: expected a string, found 3"),
        ("schema_version: 2", "schema_version: 3", ":1: schema_version: expected 2, found 3"),
        ("precision:\n  weights: int4", "precision: int4", ":17: precision: expected a mapping of keys, found 'int4'"),
        ("source: ../checkpoint", "source: s3://x", ":4: model.source: expected a path, hf://"),
        (
            "source: ../checkpoint",
            "source: hf://x",
            ":4: model.source: expected hf://org/name or hf://org/name@revision",
        ),
        ("source: ../checkpoint", "source: synthetic://-1", ":4: model.source: expected synthetic://SEED"),
        ("source: ../checkpoint", "source: ''", ":4: model.source: expected a path"),
    ],
)
def test_a_wrong_value_says_where_what_was_expected_and_what_was_found(old, new, expected):
    assert old in MINIMAL
    assert error(text=MINIMAL.replace(old, new)).startswith(f"dir/tiny.yaml{expected}")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("limits.max_contxt=1", "did you mean max_context?"),
        ("presision=int8", "did you mean precision?"),
        ("target.max_batch=1", "it belongs at limits.max_batch"),
        ("chat.head_dim=1", "it belongs at model.architecture.head_dim"),
        ("chat.top_k=1", "it belongs at chat.sampling.thinking.top_k or chat.sampling.non_thinking.top_k"),
        ("limits.zzz=1", "expected one of max_context, max_batch, max_step_tokens"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(override, hint):
    assert error(override) == f"--set {override.partition('=')[0]}: unknown key; {hint}"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("name", "--set: expected key.path=value, found 'name'"),
        ("=x", "--set: expected key.path=value, found '=x'"),
        ("a..b=x", "--set: expected key.path=value, found 'a..b=x'"),
        ("name.x=1", "--set name.x: 'x' is set inside 'tiny', which is not a mapping"),
        ("limits.max_batch=many", "--set limits.max_batch: expected an integer, found 'many'"),
        ("limits={max_context: x}", "--set limits.max_context: expected an integer, found 'x'"),
        (
            "target={backend: tensorrt-rtx, plugins: [moe, atention]}",
            "--set target.plugins: expected all, none, or a list of attention and moe, found ['moe', 'atention']",
        ),
        (
            "target={backend: tensorrt-rtx, plugins: [moe, moe]}",
            "--set target.plugins: expected each plugin once, found ['moe', 'moe']",
        ),
        (
            "target={backend: tensorrt-rtx, plugins: []}",
            "--set target.plugins: expected all, none, or a list of attention and moe, found []",
        ),
        ("name=[[1]]", "--set name: expected a string, found a list"),
        ("name=!x y", "--set name:1: tags are not accepted, found !x"),
    ],
)
def test_a_wrong_override_is_located_at_the_override(override, line):
    assert error(override) == line


@pytest.mark.parametrize("text", ["", "[]", "just words", "3"])
def test_a_document_that_is_no_mapping_is_refused(text):
    assert error(text=text).startswith("dir/tiny.yaml: expected a mapping of keys, found ")


PATHS = sorted(".".join(map(str, path)) for path in all_keys(Spec))
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({"a": [1]})


@given(st.lists(st.tuples(st.sampled_from(PATHS), ODD), min_size=1, max_size=3))
def test_any_value_at_any_key_is_accepted_or_refused_with_its_location(changes):
    values = YAML(typ="safe", pure=True).load(MINIMAL)
    for path, value in changes:
        *sections, key = path.split(".")
        place = values
        for section in sections:
            inner = place.get(section)
            place[section] = place = dict(inner) if isinstance(inner, dict) else {}
        place[key] = value
    try:
        accepted = spec_from_mapping(values, where="w", base_dir=Path())
    except SpecError as refused:
        lines = str(refused).splitlines()
    else:
        lines = [f"w: {accepted.name}: accepted"]
    assert lines
    assert all(re.match(r"w: [\w.-]+: ", line) for line in lines)
