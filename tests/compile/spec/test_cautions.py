"""Limits that say little of random weights."""

import pytest

from qwen3_compile.cli import main
from qwen3_compile.spec import find_spec, load_spec
from qwen3_compile.spec.cautions import cautions

SYNTHETIC = "model.source=synthetic://1"


def warned(*overrides):
    return cautions(load_spec(find_spec("tiny-dense"), overrides))


def test_limits_that_random_weights_meet_by_chance_are_named():
    chance, empty = warned(SYNTHETIC, "accuracy.min_greedy_tokens=4")
    assert chance.startswith("accuracy.min_top1_agreement and accuracy.min_greedy_tokens: ")
    assert empty.startswith("accuracy.max_perplexity_ratio: ")


@pytest.mark.parametrize("accuracy", ["{max_kl: 0.1}", "{max_logit_error: 1.0, min_cosine: 0.9}", "{}"])
def test_distances_mean_as_much_as_ever(accuracy):
    assert warned(SYNTHETIC, f"accuracy={accuracy}") == []


def test_trained_weights_are_not_warned_of():
    assert warned() == []


def test_the_spec_check_warns_and_passes(capsys):
    assert main(["specs", "check", "tiny-dense", "--set", SYNTHETIC]) == 0
    out, err = capsys.readouterr()
    assert out == "tiny-dense: tiny-dense is valid\n"
    assert err.count("warning: tiny-dense: accuracy.") == 2
