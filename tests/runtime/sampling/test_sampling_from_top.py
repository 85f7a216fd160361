"""The largest logits alone give the token that all logits give, or they are not used.

Covers: random settings, ties, flat and steep rows, penalties; bounds of weight
Reference: the same seed over all logits; float64 sums
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_runtime.errors import EngineError
from qwen3_runtime.sampling import NON_THINKING, THINKING, Sampler, Sampling
from qwen3_runtime.sampling.fast_path import rank_top
from qwen3_runtime.sampling.penalties import Penalties
from qwen3_runtime.step import Top

LIVE = 20_000
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0, 0.02, 0.6, 1.0, 1.0, 1.3]),
    top_k=st.sampled_from([0, 0, 1, 5, 20, 5000]),
    top_p=st.sampled_from([1.0, 1.0, 0.95, 0.5, 1e-6]),
    min_p=st.sampled_from([0, 0, 0.02, 0.5, 1]),
    presence_penalty=st.sampled_from([0, 0, 1.5, -2]),
    frequency_penalty=st.sampled_from([0, 0, 0.5]),
    repetition_penalty=st.sampled_from([1, 1, 1.3, 0.4]),
)


def top_of(logits, k, error=0.0):
    """By a full sort; the log-sum-exp off by `error`."""
    exact = logits.astype(np.float64)
    ids = np.argsort(-exact, kind="stable")[:k]
    total = np.log(np.exp(exact - exact.max()).sum()) + exact.max()
    return Top(logits[ids], ids.astype(np.int32), np.float32(total + error))


def peaked(rng, size, *, spread=2.0, peaks=200, height=14.0):
    """Logits as a language model's: many unlikely tokens and some that stand out."""
    logits = (rng.standard_normal(size) * spread).astype(np.float32)
    chosen = rng.choice(size, min(peaks, size), replace=False)
    logits[chosen] += np.linspace(height, 0, len(chosen), dtype=np.float32)
    return logits


def pair(sampling, live, prompt, generated, forbidden):
    samplers = [Sampler(sampling, live, prompt) for _ in range(2)]
    for sampler in samplers:
        for token_id in generated:
            sampler.accept(token_id)
        for token_id in forbidden:
            sampler.forbid(token_id)
    return samplers


@settings(max_examples=500, deadline=None)
@given(
    sampling=SAMPLINGS,
    seed=st.integers(0, 2**32),
    size=st.sampled_from([1, 2, 7, 120, 135, 190, 300, LIVE]),
    grid=st.sampled_from([0, 0, 4, 1]),
    height=st.sampled_from([0.0, 14.0, 40.0]),
    spread=st.sampled_from([0.1, 2.0, 30.0]),
    asked=st.sampled_from([0, 0, 0, 1, 3, 400]),
    history=st.integers(0, 150),
    forbidden=st.integers(0, 2),
    error=st.sampled_from([0, 2e-5, -2e-5]),
)
def test_the_largest_logits_give_the_token_that_all_give(
    sampling, seed, size, grid, height, spread, asked, history, forbidden, error
):
    """Ties (logits on a grid), flat and steep rows, penalties on the likely and on the unlikely, any number given."""
    rng = np.random.default_rng(seed)
    rows = [peaked(rng, size, spread=spread, height=height) for _ in range(4)]
    if grid:
        rows = [np.round(row * grid) / np.float32(grid) for row in rows]
    likely = np.argsort(-rows[0])[: max(1, size // 3)]
    likely = likely[rng.integers(0, len(likely), history)].tolist()
    prompt, generated = likely[::2], [*likely[1::2], *rng.integers(0, size, history // 3).tolist()]
    barred = np.argsort(-rows[1])[: min(forbidden, size - 1)].tolist()
    alone, helped = pair(replace(sampling, seed=seed), size, prompt, generated, barred)
    for row in rows:
        for _ in range(3):
            wanted = helped.top_k if asked == 0 else min(asked, size)
            top = top_of(row, wanted, error) if wanted else None
            token = helped.sample(row, top)
            assert token == alone.sample(row)
        for sampler in (alone, helped):
            sampler.accept(token)


@pytest.mark.parametrize(
    "sampling",
    [
        THINKING,
        NON_THINKING,
        replace(THINKING, presence_penalty=1.5, repetition_penalty=1.1),
        Sampling(min_p=0.05, temperature=1.5),
        Sampling(min_p=0.1, temperature=1.5, top_p=0.95),
        Sampling(temperature=0.7, top_p=0.9),
        Sampling(top_p=0.9),
    ],
    ids=["thinking", "not thinking", "penalties", "min-p", "min-p within top-p", "cool top-p", "top-p"],
)
def test_other_logits_are_not_even_read(sampling):
    """All logits but the largest and those with penalties are NaN, which is an error as soon as one is looked at."""
    rng = np.random.default_rng(2)
    generated = rng.integers(0, LIVE, 30).tolist()
    alone, helped = pair(replace(sampling, seed=4), LIVE, generated, generated, [])
    for _ in range(20):
        row = peaked(rng, LIVE)
        top = top_of(row, helped.top_k)
        hidden = np.full(LIVE, np.nan, np.float32)
        hidden[top.ids] = top.values
        hidden[generated] = row[generated]
        assert helped.sample(hidden, top) == alone.sample(row)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    temperature=st.sampled_from([0.3, 0.6, 1.0, 1.7]),
    k=st.sampled_from([2, 20, 150]),
    height=st.sampled_from([0.0, 14.0]),
    spread=st.sampled_from([0.1, 2.0]),
    history=st.sampled_from([0, 40]),
    error=st.sampled_from([0, 5e-5, -5e-5]),
)
def test_the_bounds_hold_the_weight_of_all_tokens(seed, temperature, k, height, spread, history, error):
    """Against the sum over the whole row in float64, for penalties up and down and a log-sum-exp that is off."""
    rng = np.random.default_rng(seed)
    row = peaked(rng, LIVE, spread=spread, height=height)
    penalties = Penalties(Sampling(presence_penalty=rng.choice([-2, 1.5]), repetition_penalty=1.2), LIVE)
    for token_id in np.argsort(-row)[rng.integers(0, 300, history)]:
        penalties.count(int(token_id))
    ranking = rank_top(top_of(row, k, error), row, penalties, LIVE, temperature)
    if ranking is None:
        return
    scores = row.astype(np.float64)
    scores[penalties.ids] = penalties.scores(row)
    low, high = ranking.total
    assert low <= np.exp((scores - float(ranking.scores[0])) / temperature).sum() <= high
    assert sorted(ranking.ids.tolist()) == np.flatnonzero(scores >= ranking.scores[-1]).tolist()


def test_weights_too_large_for_float64_do_not_hide_the_others():
    """A penalty takes the peak 709.78 below its logit, where the weight of one is infinite and of the other not."""
    row = np.full(1000, 8, np.float32)
    row[0], row[1] = 720, 9
    penalties = Penalties(Sampling(repetition_penalty=720 / (720 - 709.78275)), len(row))
    penalties.count(0)
    ranking = rank_top(top_of(row, 2, error=-6e-5), row, penalties, len(row), 1.0)
    assert ranking.ids.tolist() == [0]
    assert ranking.total[1] > 1 + 998 * np.exp(8 - float(ranking.scores[0]))


def test_behind_the_front_tokens_come_by_id_though_more_are_ranked():
    rng = np.random.default_rng(5)
    generated = rng.integers(0, 300, 80).tolist()
    alone, helped = pair(Sampling(presence_penalty=0.5, seed=9), 300, [], generated, [])
    for _ in range(100):
        row = peaked(rng, 300, spread=0.2, height=0)
        assert helped.sample(row, top_of(row, helped.top_k)) == alone.sample(row)


def test_without_any_cut_most_draws_are_among_the_largest():
    rng = np.random.default_rng(3)
    alone, helped = (Sampler(Sampling(seed=1), LIVE) for _ in range(2))
    found = 0
    for _ in range(200):
        row = peaked(rng, LIVE)
        top = top_of(row, helped.top_k)
        token = helped._pick_from_top(top, row, helped._random.random())
        assert token in (alone.sample(row), None)
        found += token is not None
    assert found > 150


@pytest.mark.parametrize("sampling", [THINKING, Sampling(temperature=0), Sampling(top_p=0.9), Sampling()])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_overflowed_logits_are_an_error_though_the_largest_are_given(sampling, bad):
    row = peaked(np.random.default_rng(0), 5000)
    row[77] = bad
    top = top_of(np.nan_to_num(row, nan=0, posinf=0), 200)
    top = replace(top, log_sum_exp=np.float32(bad))
    with pytest.raises(EngineError, match="expected finite logits"):
        Sampler(sampling, 5000).sample(row, top)


def test_a_row_of_nothing_but_forbidden_tokens_is_an_error():
    sampler = Sampler(THINKING, 3)
    for token_id in range(3):
        sampler.forbid(token_id)
    row = np.zeros(3, np.float32)
    with pytest.raises(EngineError, match="every token is forbidden"):
        sampler.sample(row, top_of(row, 3))


def test_what_is_asked_for_grows_with_the_penalties_and_stays_within_the_vocabulary():
    assert Sampler(THINKING, LIVE).top_k == 21
    assert Sampler(THINKING, 21).top_k == 21
    assert Sampler(Sampling(), LIVE).top_k == 129
    assert Sampler(Sampling(temperature=0), LIVE).top_k == 0
    assert Sampler(Sampling(top_k=5000), LIVE).top_k == 0
    assert Sampler(Sampling(temperature=1.5), LIVE).top_k == 0
    assert Sampler(replace(THINKING, repetition_penalty=1.1), LIVE, range(10)).top_k == 31
    assert Sampler(replace(THINKING, repetition_penalty=1.1), LIVE, range(1000)).top_k == 85
