"""What an engine that misses its accuracy limits is told to try."""

import pytest

from qwen3_compile.accuracy_limits import judge
from qwen3_compile.pipeline.suggestions import suggestions
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


def far(measured, limit, *overrides, key="max_kl", figure="mean_kl"):
    spec = load_spec(find_spec("tiny-dense"), overrides)
    return spec, suggestions(spec, judge({key: limit}, "logits", {figure: measured}, []))


@pytest.mark.parametrize(
    ("key", "figure", "measured", "limit"),
    [("max_kl", "mean_kl", 0.03, 1e-4), ("max_perplexity_ratio", "perplexity_ratio", 1.2, 1.001),
     ("min_top1_agreement", "top1_agreement", 0.8, 0.999), ("max_logit_error", "max_logit_error", 3.0, 1e-2)],
)  # fmt: skip
def test_a_limit_that_is_missed_by_far_gets_floats(key, figure, measured, limit):
    spec, (line,) = far(measured, limit, key=key, figure=figure)
    assert spec.precision.weights == "int4"
    changes = line.removeprefix("try ").split(", or ")
    for change, kind in zip(changes, ("fp16", "fp32"), strict=True):
        found = load_spec(find_spec("tiny-dense"), change.replace("--set ", "").split()).precision
        assert (found.weights, found.lm_head, found.embedding, found.kv_cache) == (kind, kind, kind, "fp16")


@pytest.mark.parametrize("precision", ["{weights: int4, group_size: 32, lm_head: int8}", "{weights: fp32}"])
def test_a_limit_closer_than_rounding_is_called_so(precision):
    _, lines = far(2.7e-7, 1e-9, f"precision={precision}")
    assert lines == ["accuracy.max_kl=1e-09 is closer than rounding allows, even with float weights: relax it"]


def test_a_limit_that_is_missed_by_little_gets_the_cheapest_change():
    assert far(0.03, 0.02)[1] == suggested()


def test_limits_of_random_weights_are_told_again():
    assert any("random weights" in line for line in suggested("model.source=synthetic://1"))


@pytest.mark.parametrize("name", sorted(shipped_specs()))
def test_every_suggestion_is_a_spec(name):
    path = shipped_specs()[name]
    for line in suggestions(load_spec(path)):
        for change in line.removeprefix("try ").split(", or "):
            load_spec(path, change.replace("--set ", "").split())
