"""Specs of the version before are read, and a warning says how to write them now."""

import json

import pytest
from minimal_spec import MINIMAL as TEXT

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
        (OLD, ["target={backend: tensorrt-rtx, attention: fused}"], "target.attention: unknown key"),
        (TEXT, ["target={backend: tensorrt-rtx, attention: plugin}"], "target.attention: unknown key"),
        (TEXT.replace("schema_version: 2", "schema_version: true"), [], "schema_version: expected 2, found true"),
        (TEXT.replace("schema_version: 2", "schema_version: 0"), [], "schema_version: expected 2, found 0"),
        (OLD, ["target=5"], "target: expected a mapping of keys, found 5"),
    ],
)
def test_other_values_are_reported_as_ever(text, overrides, words):
    with pytest.raises(SpecError, match=r"unknown key|expected") as raised:
        parse_spec(text, overrides=overrides)
    assert words in str(raised.value)
