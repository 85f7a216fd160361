"""The judgment by accuracy limits, and the files a report is written to.

Covers: hostile texts
Reference: an HTML parser
"""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from qwen3_compile.errors import AccuracyError
from qwen3_compile.spec import AccuracyLimits
from qwen3_compile.validate.html import write_html
from qwen3_compile.validate.report import AccuracyReport, Greedy, PositionSeries, Summary, Worst, read_json, write_json
from qwen3_compile.validate.worst import Guess, WorstPosition


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
            "mean KL is 0.02, the limit is at most 0.01, missed by 0.01 .worst: text, prefill, position 1: 0.05",
        ),
        ({"min_top1_agreement": 0.95}, "top-1 agreement is 0.9, the limit is at least 0.95"),
        ({"max_logit_error": 0.5}, "largest error is 0.7, the limit is at most 0.5"),
        ({"max_perplexity_ratio": 1.01}, "perplexity ratio is 1.02, the limit is at most 1.01"),
        ({"min_greedy_tokens": 6}, "greedy agreement is 5 of 32 tokens on prompt 1, .* at least 6, missed by 1"),
    ],
)
def test_a_broken_limit_is_named_with_figure_limit_and_worst_position(limit, message):
    with pytest.raises(AccuracyError, match=message) as caught:
        make().check(AccuracyLimits(**limit))
    assert "\n" not in str(caught.value)


def test_limits_that_hold_pass_and_a_limit_is_inclusive():
    held = {"max_kl": 0.02, "min_top1_agreement": 0.9, "max_logit_error": 0.7, "max_perplexity_ratio": 1.02}
    make().check(AccuracyLimits(**held, min_greedy_tokens=5))
    make().check(AccuracyLimits())


def test_every_broken_limit_is_listed():
    with pytest.raises(AccuracyError) as caught:
        make().check(AccuracyLimits(max_kl=0.0, min_top1_agreement=1.0))
    assert str(caught.value).count("the limit is") == 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_not_a_number_misses_the_limit(value):
    with pytest.raises(AccuracyError):
        make(mean_kl=value).check(AccuracyLimits(max_kl=1e9))


def test_a_limit_on_what_was_not_measured_is_broken():
    with pytest.raises(AccuracyError, match="not measured"):
        make(engine_perplexity=None).check(AccuracyLimits(max_perplexity_ratio=2.0))


def test_an_embedding_is_judged_by_angle():
    make("hidden").check(AccuracyLimits(min_cosine=0.98, max_kl=0.0))
    with pytest.raises(AccuracyError, match=r"smallest cosine is 0\.98, the limit is at least 0\.99"):
        make("hidden").check(AccuracyLimits(min_cosine=0.99))


def test_a_limit_on_the_angle_holds_for_logits_too():
    with pytest.raises(AccuracyError, match=r"smallest cosine is 0\.98, the limit is at least 0\.99"):
        make().check(AccuracyLimits(min_cosine=0.99))


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
        write_html(report, AccuracyLimits(max_kl=0.01), "tiny <dense>", tmp_path / name)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page == (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "tiny &lt;dense&gt;" in page
    assert "mean KL is 0.02" in page
    assert page.count("<svg") == 3
    links = re.findall(r'(?:src|href)="(?!#)([^"]*)"', page)
    assert links == []


def test_a_page_of_hidden_states_speaks_of_angles_and_not_of_probabilities(tmp_path):
    write_html(replace(make("hidden"), greedy=[]), AccuracyLimits(min_cosine=0.9), "embedding", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "1 - cosine" in page
    for word in ("KL", "top-1", "perplexity", "nats", "Greedy"):
        assert word not in page


def test_a_page_shows_figures_that_are_not_finite(tmp_path):
    report = make(mean_kl=math.inf)
    series = replace(report.series[0], kl=[0.0, math.inf, math.nan], max_error=[0.1, math.inf, math.nan])
    write_html(replace(report, series=[series]), AccuracyLimits(max_kl=0.1), "broken", tmp_path / "a.html")
    assert "mean KL is inf" in (tmp_path / "a.html").read_text(encoding="utf-8")


HOSTILE = "</p><script>alert(1)</script>\x1b[2J\u202e & <b>"


def full(**changes):
    """A report with all that a page shows, its texts hostile."""
    guesses = [Guess(7, 0.5, HOSTILE), Guess(8, 0.25, "inf")]
    worst = [
        WorstPosition("text", "prefill", rank, (5 - rank) / 100, guesses, guesses[::-1], f"before {HOSTILE}", "nan")
        for rank in range(5)
    ]
    greedy = [
        Greedy("prompt 1", 5, 32, prompt=HOSTILE, same="the same ", engine=f"engine {HOSTILE}", reference="PyTorch's"),
        Greedy("prompt 2", 7, 7, prompt="hi", same="all of it"),
    ]
    return replace(make(**changes), greedy=greedy, worst_positions=worst, machine="a processor, avx2")


class Page(HTMLParser):
    """Elements by name, and the text in each kind."""

    def __init__(self, text):
        super().__init__()
        self.found, self.attributes, self.stack, self.texts = [], [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in ("meta", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data):
        for tag in set(self.stack):
            self.texts.setdefault(tag, []).append(data)


def page_of(tmp_path, report, limits, facts=()):
    write_html(report, limits, "tiny", tmp_path / "page.html", facts=facts)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_every_text_survives_json_and_numbers_are_numbers_again():
    report = full(worst_kl=math.inf)
    assert read_json(json.loads(json.dumps(report.to_json()))) == report


def test_a_page_shows_limits_with_pass_or_fail_the_engine_and_what_both_say(tmp_path):
    limits = AccuracyLimits(max_kl=0.01, min_top1_agreement=0.9, min_greedy_tokens=3)
    text, page = page_of(tmp_path, full(), limits, [("precision", "weights int4"), ("built with", "torch 2")])
    rows = re.findall(
        r"<tr><th>([^<]*)<small>([^<]*)</small></th><td>([^<]*)</td><td>([^<]*)</td><td class=(\w+)>", text
    )
    assert rows == [
        ("mean KL", "", "0.02", "≤ 0.01", "fail"),
        ("top-1 agreement", "", "0.9", "≥ 0.9", "pass"),
        ("greedy agreement", "of 32 tokens on prompt 1", "5", "≥ 3", "pass"),
    ]
    assert page.texts["dt"] == ["precision", "built with", "measured on"]
    assert page.texts["dd"] == ["weights int4", "torch 2", "a processor, avx2"]
    assert page.found.count("section") == 5
    assert "50.0%" in page.texts["td"]
    said = "".join(page.texts["p"])
    for words in ("the same PyTorch's", "the same engine ", "The engine and PyTorch both say:", "all of it"):
        assert words in said
    assert "PyTorch's" in page.texts["mark"]


def test_no_text_of_a_model_is_markup_or_obeyed(tmp_path):
    text, page = page_of(tmp_path, full(), AccuracyLimits())
    assert not {"script", "b", "iframe", "img", "link", "object"} & set(page.found)
    assert "^[[2J<U+202E>" in "".join(page.texts["p"])
    assert not {"\x1b", "\u202e"} & set(text)
    assert not [
        at for at in page.attributes if at[1].startswith("on") or (at[1] in ("src", "href") and at[2][0] != "#")
    ]
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", text)


def test_plots_take_the_colors_of_a_light_or_dark_page_and_say_what_they_show(tmp_path):
    text, page = page_of(tmp_path, full(), AccuracyLimits(max_kl=0.04))
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        assert 'role="img" aria-label="' in drawing[:120]
        assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawing)) == set()
        assert "var(--ink)" in drawing
        assert "limit of the mean 0.04" in drawing
    assert "prefers-color-scheme: dark" in text
    styled = dict(re.findall(r"(--[\w-]+): (#\w+)", text))
    assert set(re.findall(r"var\((--[\w-]+)\)", text)) <= set(styled)
    assert len(page.texts["figcaption"]) == 3


def test_modes_that_coincide_are_drawn_once(tmp_path):
    report = make()
    series = report.series[0]
    near = replace(series, mode="decode", kl=[value * 1.01 for value in series.kl])
    far = replace(series, mode="ragged batch", kl=[value * 3 for value in series.kl])
    summary = report.summary
    report = replace(
        report, series=[series, near, far], by_mode=dict.fromkeys(("prefill", "decode", "ragged batch"), summary)
    )
    text, _ = page_of(tmp_path, report, AccuracyLimits())
    assert ">prefill, decode</text>" in text
    assert ">ragged batch</text>" in text
    report = replace(report, series=[series, near], by_mode=dict.fromkeys(("prefill", "decode"), summary))
    assert ">every mode</text>" in page_of(tmp_path, report, AccuracyLimits())[0]
