"""Comparing engines: ratios are taken within rounds, goals read the right figures, tables say what was not measured.

Covers: accuracy over tokens only
Reference: figures written for the test; a tiny engine
"""

import re

import numpy as np
import pytest
from peers.contenders import AVX2, CONTENDERS
from peers.goals import GOALS, of_bandwidth, rivals, times
from peers.machine import parse_cpuinfo
from peers.measuring import Ceiling, Durations, Lengths, Prompts, greedy, measure
from peers.plots import BARS, ranked, write_plots
from peers.report import engine_table, goal_table, in_unit
from peers.results import MACHINE, Results, read_results, write_results
from peers.rounds import rotated

RATES = {"prefill": 100.0, "decode_short": 20.0, "decode_long": 10.0, "peak_rss": 1e9}


def results(*rounds):
    return Results(threads=2, machine={}, rounds=list(rounds), model_bytes={one.name: 10**6 for one in CONTENDERS})


def test_a_ratio_is_taken_within_each_round_and_against_the_best_rival_of_that_round():
    found = results(
        {"us": {"rate": 30.0}, "a": {"rate": 10.0}, "b": {"rate": 15.0}},  # 2.0
        {"us": {"rate": 3.0}, "a": {"rate": 1.0}, "b": {"rate": 0.5}},  # 3.0 on a machine ten times as slow
        {"us": {"rate": 50.0}, "a": {"rate": 5.0}},  # 10.0
    )
    assert found.ratio("us", ["a", "b"], "rate") == pytest.approx(3.0)


def test_a_round_without_the_figure_or_without_rivals_does_not_count():
    found = results({"us": {"rate": 8.0}, "a": {"rate": 2.0}}, {"us": {"rate": 8.0}}, {"a": {"rate": 1.0}})
    assert found.ratio("us", ["a"], "rate") == pytest.approx(4.0)
    assert found.ratio("us", ["nobody"], "rate") is None


def test_bandwidth_is_that_beside_the_contender():
    slow = {"us": {"decode_short": 10.0, "bytes_short": 5.0, "per_byte_short": 10.0 / 100.0}}
    fast = {"us": {"decode_short": 40.0, "bytes_short": 5.0, "per_byte_short": 40.0 / 400.0}}
    assert of_bandwidth("short")(results(slow, fast), "us") == pytest.approx(0.5)


def test_a_contender_held_to_avx2_is_compared_with_those_that_are_too():
    found = results({"us": {"rate": 30.0}, "us-avx2": {"rate": 20.0}, "a": {"rate": 15.0}, "a-avx2": {"rate": 5.0}})
    goal = times("rate", ["a", "a-avx2"])
    assert (goal(found, "us"), goal(found, "us-avx2")) == pytest.approx((2.0, 4.0))


def test_every_goal_is_asked_of_contenders_of_ours_that_exist():
    ours = {one.name for one in CONTENDERS if one.ours}
    assert {goal.ours for goal in GOALS} <= ours
    assert {goal.ours + AVX2 for goal in GOALS} <= ours
    assert len({one.name for one in CONTENDERS}) == len(CONTENDERS)


def test_rivals_are_never_ours_and_of_the_asked_bits_and_checkpoint():
    by_name = {one.name: one for one in CONTENDERS}
    found = [by_name[name] for name in rivals(None, 4, "dense")]
    assert {one.engine for one in found} == {
        "llama.cpp",
        "llama.cpp for AVX2",
        "onnxruntime-genai",
        "openvino-genai",
    }
    assert all((one.bits, one.checkpoint) == (4, "dense") for one in found)


def test_the_goal_table_says_yes_no_or_that_nothing_was_measured():
    measured = {
        "ours-int4-g32": {**RATES, "decode_short": 32.0, "decode_together": 79.0, "outside_session": 0.04},
        "llama-q4_0": RATES,
        "llama-q4_0-fa": {**RATES, "decode_long": 4.0},
    }
    rows = [line.split(" | ") for line in goal_table(results(measured)).splitlines()]
    verdicts = {(row[0].strip("| "), row[1]): row[2:4] for row in rows}
    assert verdicts["decode, int4 group 32, short context", ">= 1.60 x (the best peer at 4 bits)"] == ["1.60 x", "yes"]
    # The better of llama.cpp's two settings counts.
    deep = verdicts["decode at 2,048 tokens of context, fp16 cache", ">= 2.00 x (llama.cpp Q4_0, its better flags)"]
    assert deep == ["1.00 x", "no"]
    assert verdicts["8 sequences decoding together", ">= 2.50 x (one sequence)"] == ["2.47 x", "no"]
    assert verdicts["time per decode step outside the session", "<= 3 % (of the step)"] == ["4 %", "no"]
    assert verdicts["decode, int4 group 128", ">= 1.75 x (the best peer at 4 bits)"] == ["-", "-"]


def test_the_engine_table_has_medians_with_their_range_and_only_what_ran():
    name = "llama-q4_0"
    text = engine_table(
        results({name: RATES}, {name: {**RATES, "prefill": 300.0}}, {name: {**RATES, "prefill": 110.0}})
    )
    assert "110.0 (100.0-300.0)" in text
    assert re.findall(r"`(.*?)`", text) == [name]


@pytest.mark.parametrize(
    ("value", "unit", "text"), [(1.6, "x", "1.60 x"), (0.753, "%", "75.3 %"), (0.4, "s", "0.40 s")]
)
def test_numbers_are_written_in_their_unit(value, unit, text):
    assert in_unit(value, unit) == text


def test_results_come_back_as_they_were_written(tmp_path):
    written = results({"us": RATES, MACHINE: {"read_bandwidth": 3e10}})
    write_results(written, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_every_contender_is_first_once_and_none_is_left_out():
    orders = [rotated(CONTENDERS, number) for number in range(len(CONTENDERS))]
    assert [order[0] for order in orders] == list(CONTENDERS)
    assert all(sorted(order, key=CONTENDERS.index) == list(CONTENDERS) for order in orders)


def test_greedy_feeds_back_the_most_probable_token():
    fed = []

    def step(ids):
        fed.append(ids.tolist())
        return np.eye(10, dtype=np.float32)[(ids[-1] + 1) % 10]

    greedy(step, np.array([3, 4]), 4)
    assert fed == [[3, 4], [5], [6], [7]]


def test_rates_count_prompt_tokens_before_and_new_tokens_after_the_first():
    class Steady:
        def generate(self, prompt, new):
            return Durations(first=0.01 * len(prompt), others=0.5 * (new - 1))

    rates = measure(Steady(), Prompts(0), Lengths(prefill=30, long=50, short_decoded=8, long_decoded=4), threads=1)
    expected = {"prefill": 100, "prefill_long": 100, "decode_short": 2, "decode_long": 2}
    assert {name: rates[name] for name in expected} == pytest.approx(expected)
    assert 1e9 < rates["read_bandwidth"] < 2e11
    assert 2 / 2e11 < rates["per_byte_short"] < 2 / 1e9


def test_a_rate_is_set_against_the_memory_that_was_read_before_and_after_it(monkeypatch):
    ceiling, order = Ceiling(1), []
    monkeypatch.setattr(ceiling, "read", lambda: order.append("read") or 10.0 * len(order))
    assert ceiling.beside(lambda: order.append("decode") or 7.0) == (7.0, 20.0)
    assert order == ["read", "decode", "read"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: Some x86\nflags\t\t: fpu avx2 avx512f\n", ("Some x86", ["avx2", "avx512f"])),
        ("CPU part\t: 0xd40\nFeatures\t: fp asimd asimddp i8mm\n", ("", ["asimddp", "i8mm"])),
        ("", ("", [])),
    ],
    ids=["x86", "arm", "neither"],
)
def test_a_processor_is_described_by_what_linux_tells_of_it(text, expected):
    assert parse_cpuinfo(text) == expected


def test_no_prompt_comes_twice():
    prompts = Prompts(0)
    assert not np.array_equal(prompts.draw(16), prompts.draw(16))


def test_bars_are_named_after_engines_sorted_and_at_most_six(tmp_path):
    rates = {one.name: {**RATES, "prefill": 10.0 * number} for number, one in enumerate(CONTENDERS, start=1)}
    found = results(rates)
    for checkpoint in BARS:
        shown = ranked(found, checkpoint, "prefill")
        assert 2 <= len(shown) <= 6
        assert [rate for _, _, rate in shown] == sorted((rate for _, _, rate in shown), reverse=True)
        assert {name for bar, name, _ in shown for name in bar.contenders} <= set(rates)
    by_label = {bar.label: name for bar, name, _ in ranked(found, "dense", "prefill")}
    assert by_label["llama.cpp Q4_0"] == "llama-q4_0-fa"  # the faster of its two settings
    paths = write_plots(found, tmp_path)
    assert [path.name for path in paths] == ["comparison-dense.svg", "comparison-moe.svg"]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert not [one.name for one in CONTENDERS if f">{one.name}<" in text]
        assert ">llama.cpp Q4_0</text>" in text


def test_what_was_not_measured_has_no_bar():
    assert [bar.label for bar, _, _ in ranked(results({"genai-int4-g32": RATES}), "dense", "prefill")] == [
        "onnxruntime-genai, groups of 32"
    ]
    assert ranked(results({}), "moe", "prefill") == []
