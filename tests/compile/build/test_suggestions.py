"""What an engine that breaks its contract is told to try."""

import pytest

from qwen3_compile.build.suggestions import suggestions
from qwen3_compile.spec import find_spec, load_spec, shipped_specs


def suggested(*overrides):
    return suggestions(load_spec(find_spec("tiny-dense"), overrides))


@pytest.mark.parametrize(
    ("precision", "told"),
    [
        (
            "{weights: int4, lm_head: int4, group_size: 128, embedding: int8}",
            ["lm_head=int8", "group_size=32", "activation_quantization=none", "weights=int8"],
        ),
        (
            "{weights: int8, group_size: 32, activation_quantization: none, lm_head: fp32, embedding: fp32}",
            ["weights=fp16 --set precision.group_size=null", "weights=bf16 --set precision.group_size=null"],
        ),
        ("{weights: fp16, kv_cache: int8}", ["kv_cache=fp16"]),
    ],
)
def test_more_precision_is_suggested_where_the_spec_has_little(precision, told):
    changes = ", or ".join(f"--set precision.{change}" for change in told)
    assert suggested(f"precision={precision}") == [f"try {changes}"]


def test_nothing_is_suggested_where_nothing_is_coarse():
    assert suggested("precision={weights: fp32}") == []


def test_limits_of_random_weights_are_told_again():
    assert any("random weights" in line for line in suggested("model.source=synthetic://1"))


@pytest.mark.parametrize("name", sorted(shipped_specs()))
def test_every_suggestion_is_a_spec(name):
    path = shipped_specs()[name]
    for line in suggestions(load_spec(path)):
        for change in line.removeprefix("try ").split(", or "):
            load_spec(path, change.replace("--set ", "").split())
