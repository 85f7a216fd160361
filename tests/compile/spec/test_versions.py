"""Specs of the version before are read, and a warning says how to write them now."""

import json

import pytest
from minimal_spec import MINIMAL as TEXT
from minimal_spec import error

from qwen3_compile.errors import SpecError
from qwen3_compile.spec import parse_spec

OLD = TEXT.replace("schema_version: 2", "schema_version: 1")


@pytest.mark.parametrize(
    ("target", "backend", "plugins", "words"),
    [
        (None, "ort", "all", "write schema_version: 2"),
        ("{}", "ort", "all", "write schema_version: 2 and target: {backend: ort, plugins: all}"),
        ("{backend: ort-cpu}", "ort", "all", "and target: {backend: ort, plugins: all}"),
        ("{backend: ort}", "ort", "none", "and target: {backend: ort, plugins: none}"),
        ("{backend: onnx}", "onnx", "none", "write schema_version: 2"),
        ("{backend: tensorrt-rtx}", "tensorrt-rtx", "none", "write schema_version: 2"),
        ("{backend: tensorrt-rtx, attention: native, moe: null}", "tensorrt-rtx", "none", "{backend: tensorrt-rtx}"),
        (
            "{backend: tensorrt-rtx, attention: plugin}", "tensorrt-rtx", ["attention"],
            '{backend: tensorrt-rtx, plugins: ["attention"]}',
        ),
    ],
)  # fmt: skip
def test_version_1_means_what_it_meant(target, backend, plugins, words):
    section = [] if target is None else [f"target={target}"]
    wide = ["model.architecture.head_dim=64", "precision.group_size=null"]
    spec = parse_spec(OLD, path="old.yaml", overrides=[*section, *wide])
    assert (spec.schema_version, spec.target.backend, spec.target.plugins) == (2, backend, plugins)
    (note,) = spec.notes
    assert note.startswith("old.yaml: schema_version 1 is read as version 2: ")
    assert note.endswith(words)
    again = parse_spec(json.dumps(spec.resolved()))
    assert (again.resolved(), again.notes) == (spec.resolved(), ())


def test_both_plugins_of_version_1_are_a_list():
    experts = ["num_experts=4", "num_experts_per_tok=2", "moe_intermediate_size=128", "head_dim=64"]
    target = "target={backend: tensorrt-rtx, attention: plugin, moe: plugin}"
    overrides = [target, "precision.group_size=null", *(f"model.architecture.{expert}" for expert in experts)]
    assert parse_spec(OLD, overrides=overrides).target.plugins == ["attention", "moe"]


def test_the_old_backend_is_read_as_an_override_too():
    spec = parse_spec(TEXT, overrides=["target.backend=ort-cpu"])
    assert (spec.target.backend, spec.target.plugins) == ("ort", "all")
    assert "target.backend ort-cpu is an old name: write target: {backend: ort, plugins: all}" in spec.notes[0]


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        (
            OLD,
            ["target={backend: tensorrt-rtx, attention: plugn}"],
            "target.attention: expected 'native' or 'plugin', found 'plugn'",
        ),
        (
            TEXT,
            ["target={backend: tensorrt-rtx, attention: plugin, moe: plugin}"],
            "target.moe: a key of schema_version 1: write plugins: [attention, moe]",
        ),
        (
            TEXT,
            ["target={backend: tensorrt-rtx, attention: native}"],
            "attention: a key of schema_version 1: omit it",
        ),
        (TEXT.replace("schema_version: 2\n", ""), [], "schema_version: required but missing: write schema_version: 2"),
        (TEXT.replace("schema_version: 2", "schema_version: true"), [], "schema_version: expected 2, found true"),
        (TEXT.replace("schema_version: 2", "schema_version: 1.0"), [], "schema_version: expected 2, found 1.0"),
        (TEXT.replace("schema_version: 2", "schema_version: 0"), [], "schema_version: expected 2, found 0"),
        (OLD, ["target=5"], "target: expected a mapping of keys, found 5"),
        (OLD, ["limits.max_batch=0", "target.moe=x"], "limits.max_batch: expected at least 1, found 0"),
    ],
)
def test_other_values_are_reported(text, overrides, words):
    with pytest.raises(SpecError, match=r"schema_version|expected") as raised:
        parse_spec(text, overrides=overrides)
    assert words in str(raised.value)


@pytest.mark.parametrize("target", ["[]", "5"])
def test_a_target_of_version_1_that_is_no_mapping_is_all_that_is_wrong(target):
    assert error(f"target={target}", text=OLD).startswith("--set target: expected a mapping of keys, found ")


@pytest.mark.parametrize(
    ("text", "target", "words"),
    [
        (
            OLD,
            "{backend: tensorrt-rtx, attention: plugin, plugins: [moe]}",
            "target.plugins: found target.attention as well, an old name: omit one of the two",
        ),
        (OLD, "{backend: ort-cpu, plugins: none}", "found target.backend ort-cpu as well, an old name"),
        (
            TEXT,
            "{backend: ort-cpu, plugins: none}",
            "found target.backend ort-cpu as well, an old name",
        ),
    ],
)
def test_an_old_name_beside_the_new_one_is_refused(text, target, words):
    assert words in error(f"target={target}", text=text)


def test_an_old_name_that_says_the_same_as_the_new_one_is_read():
    assert parse_spec(TEXT, overrides=["target={backend: ort-cpu, plugins: all}"]).target.plugins == "all"
