"""From rows of an engine to the figures of a report: each row is compared with its own position, and counts once.

Reference: the figures of one array, by hand
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from qwen3_compile.validate import run
from qwen3_compile.validate.cases import Case
from qwen3_compile.validate.metrics import compare_hidden, compare_logits, negative_log_likelihood
from qwen3_compile.validate.replay import Rows
from qwen3_compile.validate.report import Greedy, PositionSeries, Worst

LIVE, ROWS = 7, 9


class Furthest:
    """Remembers what it is offered."""

    def __init__(self):
        self.offers = []

    def offer(self, *values):
        self.offers.append(values)


@pytest.fixture
def compared():
    """Rows of two cases in pieces: compared(output, mode, kind) gives what was measured, the arrays and the offers."""

    def compared(output="logits", mode="prefill", kind="text", numbers=(1, 0)):
        rng = np.random.default_rng(4)
        # A case and then the states of its continuation are in one array.
        cases = [Case(name, kind, rng.integers(0, LIVE, length)) for name, length in (("a", 40), ("b", 5))]
        hidden = [rng.standard_normal((case.ids.size, ROWS)).astype(np.float32) for case in cases]
        engine = [states + rng.standard_normal(states.shape).astype(np.float32) / 8 for states in hidden]
        reference = SimpleNamespace(output=output, read_out=lambda states: 2 * states)
        # Sequence 0 of the run is the case numbers[0]; the second one comes in two pieces.
        first, second = (engine[number] for number in numbers)
        pieces = [Rows(1, 0, 2 * second[:3]), Rows(0, 0, 2 * first), Rows(1, 3, 2 * second[3:])]
        furthest = Furthest()
        found = run._compare(mode, numbers, iter(pieces), cases, hidden, reference, LIVE, furthest)
        arrays = [(cases[number], 2 * hidden[number], 2 * engine[number]) for number in numbers]
        return found, arrays, furthest.offers

    return compared


def test_each_row_is_compared_with_its_own_position(compared):
    found, arrays, offers = compared()
    for measured, (case, expected, values) in zip(found, arrays, strict=True):
        distance = compare_logits(expected, values, LIVE)
        series = measured.series
        assert (series.case, series.mode, series.positions) == (case.name, "prefill", list(range(case.ids.size)))
        np.testing.assert_allclose(series.kl, distance.kl, rtol=1e-5)
        np.testing.assert_allclose(series.max_error, distance.max_error)
        np.testing.assert_array_equal(series.top1, distance.top1)
        np.testing.assert_allclose(series.cosine, distance.cosine)
    assert [offer[:3] for offer in offers] == [
        ("a", "prefill", 0),
        ("b", "prefill", 0),
        ("a", "prefill", 3),
        ("a", "prefill", 35),
    ]
    for name, _, start, kl, (expected, values) in offers:
        (whole,) = ((e, v) for case, e, v in arrays if case.name == name)
        stop = start + len(kl)
        np.testing.assert_array_equal(expected, whole[0][start:stop, :LIVE])
        np.testing.assert_array_equal(values, whole[1][start:stop, :LIVE])
        np.testing.assert_allclose(kl, compare_logits(whole[0], whole[1], LIVE).kl[start:stop], rtol=1e-5)
        assert stop - start <= run.COMPARED_ROWS


def test_the_text_is_scored_by_each_next_token(compared):
    found, arrays, _ = compared()
    for measured, (case, expected, values) in zip(found, arrays, strict=True):
        for nats, logits in zip(measured.nats, (expected, values), strict=True):
            scores = negative_log_likelihood(logits[:-1], case.ids[1:], LIVE)
            np.testing.assert_allclose(nats, scores, rtol=1e-5)


@pytest.mark.parametrize(("mode", "kind"), [("decode", "text"), ("prefill", "prompt"), ("prefill", "random")])
def test_nothing_else_is_scored(compared, mode, kind):
    assert [measured.nats for measured in compared(mode=mode, kind=kind)[0]] == [None, None]


def test_hidden_states_are_compared_whole_and_by_their_angle(compared):
    found, arrays, offers = compared(output="hidden")
    for measured, (_, expected, values) in zip(found, arrays, strict=True):
        distance = compare_hidden(expected, values)
        np.testing.assert_allclose(measured.series.cosine, distance.cosine)
        assert measured.nats is None
    for name, _, start, far, rows in offers:
        (cosine,) = (compare_hidden(e, v).cosine for case, e, v in arrays if case.name == name)
        np.testing.assert_allclose(far, 1 - cosine[start : start + len(far)], atol=1e-7)
        assert rows is None


def series(case, mode, kl, error=None, top1=None, cosine=None):
    return PositionSeries(
        case, mode, list(range(len(kl))), kl, error or kl, top1 or [True] * len(kl), cosine or [1.0] * len(kl)
    )


@pytest.fixture
def measured():
    long = series("long", "prefill", [0.0] * 99 + [4.0], top1=[False] + [True] * 99, cosine=[0.5] + [1.0] * 99)
    short = series("short", "decode", [8.0, 0.0], error=[1.0, 16.0])
    nats = (np.array([1.0, 3.0]), np.array([2.0, 6.0]))
    return [run.Measured(short, None), run.Measured(long, nats)]


def test_figures_count_every_position_once(measured):
    report = run._report("logits", measured, [Greedy("a", 5, 9), Greedy("b", 3, 3)])
    summary = report.summary
    assert summary.positions == 102
    assert summary.mean_kl == pytest.approx(12 / 102)
    assert (summary.p99_kl, summary.worst_kl) == (4.0, 8.0)  # 101 of 102 positions do not exceed 4
    assert summary.top1_agreement == pytest.approx(101 / 102)
    assert (summary.max_logit_error, summary.min_cosine, summary.greedy_tokens) == (16.0, 0.5, 3)
    assert summary.reference_perplexity == pytest.approx(np.exp(2))
    assert summary.engine_perplexity == pytest.approx(np.exp(4))
    assert report.output == "logits"
    assert report.series == [entry.series for entry in measured]


def test_figures_of_a_mode_are_those_of_its_positions(measured):
    report = run._report("logits", measured, [Greedy("a", 5, 9)])
    assert list(report.by_mode) == ["decode", "prefill"]
    assert (report.by_mode["decode"].positions, report.by_mode["decode"].mean_kl) == (2, 4.0)
    assert (report.by_mode["prefill"].positions, report.by_mode["prefill"].mean_kl) == (100, 0.04)
    for summary in report.by_mode.values():
        assert (summary.greedy_tokens, summary.reference_perplexity, summary.engine_perplexity) == (None, None, None)


def test_the_worst_position_is_that_of_the_largest_divergence_or_the_smallest_cosine(measured):
    assert run._report("logits", measured, []).worst == Worst("short", "decode", 0, 8.0)
    assert run._report("hidden", measured, []).worst == Worst("long", "prefill", 0, 0.5)


def test_without_continuations_and_text_these_figures_are_missing(measured):
    summary = run._report("logits", measured[:1], []).summary
    assert (summary.greedy_tokens, summary.reference_perplexity, summary.engine_perplexity) == (None, None, None)


@pytest.fixture
def plans(monkeypatch):
    """The runs of an engine: plans(lengths, limits) gives mode, cases and schedules of each."""
    monkeypatch.setattr(run.replay, "replay", lambda _backend, _sequences, schedules: schedules)

    def plans(lengths, *, step_tokens=64, max_batch=4, num_blocks=100):
        io = SimpleNamespace(max_step_tokens=step_tokens, max_batch=max_batch)
        backend = SimpleNamespace(cache=SimpleNamespace(num_blocks=num_blocks))
        engine = SimpleNamespace(manifest=SimpleNamespace(io=io), backend=backend)
        cases = [Case(str(length), "random", np.zeros(length, np.int64)) for length in lengths]
        return list(run._runs(engine, cases))

    return plans


def test_every_case_is_reached_in_three_ways_and_as_many_as_fit_together(plans):
    found = plans([10, 50, 90], step_tokens=30)
    assert [(mode, numbers) for mode, numbers, _ in found] == [
        *((mode, [number]) for mode in ("prefill", "chunked prefill", "decode") for number in range(3)),
        ("ragged batch", [0, 1, 2]),
    ]
    assert found[2][2] == [[30, 30, 30]]
    assert found[4][2] == [run.replay.chunked(50, 30)]
    assert found[7][2] == [run.replay.decoding(50, 30)]
    share = 10
    assert found[9][2] == [run.replay.chunked(10, share), run.replay.decoding(50, share), run.replay.whole(90, share)]


@pytest.mark.parametrize(
    ("limits", "together"),
    [({"max_batch": 2}, [0, 1]), ({"num_blocks": 2}, [0, 1]), ({"max_batch": 1}, None), ({"num_blocks": 1}, None)],
)
def test_no_more_run_together_than_the_engine_has_room_for(plans, limits, together):
    batches = [numbers for mode, numbers, _ in plans([4, 5, 6], **limits) if mode == "ragged batch"]
    assert batches == ([] if together is None else [together])


def test_each_of_a_batch_gets_a_token_of_a_step_that_is_too_small_for_them(plans):
    schedules = plans([3, 3, 3], step_tokens=2)[-1][2]
    assert schedules == [[1, 1, 1]] * 3
