"""The judgement against a contract, and the files a report is written to."""

import json
import math
import re
from dataclasses import replace

import pytest

from qwen3_compile.errors import AccuracyError
from qwen3_compile.spec import Accuracy
from qwen3_compile.validate.html import write_html
from qwen3_compile.validate.report import AccuracyReport, Greedy, PositionSeries, Summary, Worst, read_json, write_json


def make(output="logits", **changes):
    figures = {
        "positions": 3, "mean_kl": 0.02, "p99_kl": 0.05, "worst_kl": 0.05, "top1_agreement": 0.9,
        "max_logit_error": 0.7, "min_cosine": 0.98, "greedy_tokens": 5,
        "reference_perplexity": 10.0, "engine_perplexity": 10.2,
    }  # fmt: skip
    summary = Summary(**(figures | changes))
    series = PositionSeries(
        "text", "prefill", [0, 1, 2], [0.0, 0.05, 0.01], [0.1, 0.7, 0.2], [True, True, False], [1, 0.98, 1]
    )
    greedy = [Greedy("prompt 1", 5, 32), Greedy("prompt 2", 7, 7)]
    return AccuracyReport(output, summary, {"prefill": summary}, Worst("text", "prefill", 1, 0.05), greedy, [series])


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (
            {"max_kl": 0.01},
            "mean KL is 0.02, the contract allows at most 0.01, missed by 0.01 .worst: text, prefill, position 1: 0.05",
        ),
        ({"min_top1_agreement": 0.95}, "top-1 agreement is 0.9, the contract demands at least 0.95"),
        ({"max_logit_error": 0.5}, "largest error is 0.7, the contract allows at most 0.5"),
        ({"max_perplexity_ratio": 1.01}, "perplexity ratio is 1.02, the contract allows at most 1.01"),
        ({"min_greedy_tokens": 6}, "greedy agreement is 5 of 32 tokens on prompt 1, .* at least 6, missed by 1"),
    ],
)
def test_a_broken_limit_is_named_with_figure_limit_and_worst_position(limit, message):
    with pytest.raises(AccuracyError, match=message) as caught:
        make().check(Accuracy(**limit))
    assert "\n" not in str(caught.value)


def test_limits_that_hold_pass_and_a_limit_is_inclusive():
    held = {"max_kl": 0.02, "min_top1_agreement": 0.9, "max_logit_error": 0.7, "max_perplexity_ratio": 1.02}
    make().check(Accuracy(**held, min_greedy_tokens=5))
    make().check(Accuracy())


def test_every_broken_limit_is_listed():
    with pytest.raises(AccuracyError) as caught:
        make().check(Accuracy(max_kl=0.0, min_top1_agreement=1.0))
    assert str(caught.value).count("contract") == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_not_a_number_breaks_the_contract(value):
    with pytest.raises(AccuracyError):
        make(mean_kl=value).check(Accuracy(max_kl=1e9))


def test_a_limit_on_what_was_not_measured_is_broken():
    with pytest.raises(AccuracyError, match="not measured"):
        make(engine_perplexity=None).check(Accuracy(max_perplexity_ratio=2.0))


def test_an_embedding_is_judged_by_angle():
    make("hidden").check(Accuracy(min_cosine=0.98, max_kl=0.0))
    with pytest.raises(AccuracyError, match=r"smallest cosine is 0\.98, the contract demands at least 0\.99"):
        make("hidden").check(Accuracy(min_cosine=0.99))


def test_a_limit_on_the_angle_holds_for_logits_too():
    with pytest.raises(AccuracyError, match=r"smallest cosine is 0\.98, the contract demands at least 0\.99"):
        make().check(Accuracy(min_cosine=0.99))


def test_json_is_strict_and_reads_back(tmp_path):
    report = make(worst_kl=math.inf)
    write_json(report, tmp_path / "accuracy.json")
    text = (tmp_path / "accuracy.json").read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=pytest.fail)
    assert document["summary"]["perplexity_ratio"] == pytest.approx(1.02)
    assert read_json(document) == report


def test_page_is_self_contained_and_repeatable(tmp_path):
    report = make()
    for name in ("a.html", "b.html"):
        write_html(report, Accuracy(max_kl=0.01), "tiny <dense>", tmp_path / name)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page == (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "tiny &lt;dense&gt;" in page
    assert "mean KL is 0.02" in page
    assert page.count("<svg") == 1
    links = re.findall(r'(?:src|href)="(?!#)([^"]*)"', page)
    assert links == []


def test_a_page_of_hidden_states_speaks_of_angles_and_not_of_probabilities(tmp_path):
    write_html(replace(make("hidden"), greedy=[]), Accuracy(min_cosine=0.9), "embedding", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "1 - cosine" in page
    for word in ("KL", "top-1", "perplexity", "nats", "Greedy"):
        assert word not in page


def test_a_page_shows_figures_that_are_not_finite(tmp_path):
    report = make(mean_kl=math.inf)
    series = replace(report.series[0], kl=[0.0, math.inf, math.nan], max_error=[0.1, math.inf, math.nan])
    write_html(replace(report, series=[series]), Accuracy(max_kl=0.1), "broken", tmp_path / "a.html")
    assert "mean KL is inf" in (tmp_path / "a.html").read_text(encoding="utf-8")
