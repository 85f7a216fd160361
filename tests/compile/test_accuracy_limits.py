"""Limits beside the figures that they limit."""

import math
from dataclasses import fields

import pytest

from qwen3_compile.accuracy_limits import BY_MODE, FIGURES, LIMITS, current_names, judge, parse_figure
from qwen3_compile.spec import AccuracyLimits
from qwen3_compile.validate.report import Summary

SUMMARY = {
    "mean_kl": 0.02, "worst_kl": 0.9, "top1_agreement": 0.9, "max_logit_error": 0.7, "min_cosine": 0.98,
    "perplexity_ratio": 1.02, "greedy_tokens": 5,
}  # fmt: skip
GREEDY = [{"case": "prompt 1", "agreed": 5, "generated": 32}, {"case": "prompt 2", "agreed": 7, "generated": 7}]


def test_every_limit_of_a_spec_has_its_figure():
    keys = [key for key in AccuracyLimits.model_fields if key.startswith(("min_", "max_"))]
    assert sorted(limit.key for limit in LIMITS) == sorted(keys)
    assert {limit.figure for limit in LIMITS} <= set(FIGURES)
    assert all((limit.comparison == "<=") is limit.key.startswith("max_") for limit in LIMITS)


@pytest.mark.parametrize(
    ("key", "limit", "cells"),
    [
        ("max_kl", 0.02, ("mean KL", "0.02", "<=", "0.02", "pass", "")),
        ("max_kl", 0.019, ("mean KL", "0.02", "<=", "0.019", "FAIL", "")),
        ("min_top1_agreement", 0.9, ("top-1 agreement", "0.9", ">=", "0.9", "pass", "")),
        ("min_greedy_tokens", 6, ("greedy agreement", "5", ">=", "6", "FAIL", "of 32 tokens on prompt 1")),
        ("min_greedy_tokens", 5, ("greedy agreement", "5", ">=", "5", "pass", "of 32 tokens on prompt 1")),
    ],
)
def test_a_limit_is_one_line(key, limit, cells):
    (verdict,) = judge({key: limit}, "logits", SUMMARY, GREEDY)
    assert verdict.cells == cells


def test_continuations_that_ended_by_themselves_owe_nothing():
    (verdict,) = judge({"min_greedy_tokens": 30}, "logits", SUMMARY, GREEDY[1:])
    assert verdict.passed
    assert verdict.cells == ("greedy agreement", "7", ">=", "30", "pass", "of every continuation, to its end")


@pytest.mark.parametrize("value", [math.nan, math.inf, "nan", "inf", None])
def test_what_is_no_number_breaks_a_limit(value):
    (verdict,) = judge({"max_kl": 1e9}, "logits", {**SUMMARY, "mean_kl": value}, [])
    assert verdict.passed is False


def test_a_figure_that_just_misses_does_not_look_like_its_limit():
    (verdict,) = judge({"max_kl": 0.1}, "logits", {**SUMMARY, "mean_kl": 0.100001}, [])
    assert verdict.cells == ("mean KL", "0.100001", "<=", "0.1", "FAIL", "")


def test_an_engine_that_was_not_validated_has_limits_and_no_verdict():
    (verdict,) = judge({"max_kl": 0.1}, "logits", None, [])
    assert verdict.cells == ("mean KL", "not measured", "<=", "0.1", "", "")
    assert verdict.passed is None


def test_hidden_states_are_held_to_what_they_have():
    every = {"max_kl": 0.0, "min_cosine": 0.98, "max_logit_error": 0.7, "min_greedy_tokens": 99}
    assert [verdict.figure for verdict in judge(every, "hidden", SUMMARY, [])] == ["max_logit_error", "min_cosine"]


def test_every_figure_is_one_that_validation_measures():
    measured = {name for name in vars(Summary) if isinstance(vars(Summary)[name], property)}
    measured |= {field.name for field in fields(Summary)} - {"positions"}
    assert set(FIGURES) == measured
    for output, names in BY_MODE.items():
        wanted = {name for name in FIGURES if not name.endswith(("perplexity", "ratio", "tokens"))}
        assert set(names) == {name for name in wanted if output == "logits" or FIGURES[name].of_hidden}


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3.0), (0.5, 0.5), ("inf", math.inf), ("-inf", -math.inf), (None, None), ([], None)]
)
def test_figures_are_numbers_again(value, expected):
    assert parse_figure(value) == expected


def test_an_old_summary_has_the_names_of_today():
    assert current_names({"max_kl": 0.5, "mean_kl": 0.1}) == {"worst_kl": 0.5, "mean_kl": 0.1}


@pytest.mark.parametrize(("error", "mark"), [(0.01, "pass"), (0.02, "FAIL"), ("nan", "FAIL")])
def test_the_rotation_is_held_to_a_limit_of_its_own(error, mark):
    rotation = {"error": error, "limit": 0.01, "position": 40000}
    (verdict,) = judge({}, "logits", SUMMARY, [], rotation)
    assert (verdict.figure, verdict.key) == ("rotation", "rotation")
    assert verdict.cells == ("RoPE error", f"{error}", "<=", "0.01", mark, "at 40,000")
