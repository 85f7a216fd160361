"""Sampling equals transformers' processors, follows its seed, and never leaves the vocabulary.

Reference: `transformers`' logits processors, as probability vectors
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from qwen3_runtime.errors import EngineError, RequestError
from qwen3_runtime.sampling import NON_THINKING, THINKING, ReferenceSampler, Sampler, Sampling

VOCAB = 151_936
LIVE = 151_669


def reference(sampling, logits, live, prompt=(), generated=()):
    """Probabilities float64 [live] by transformers; presence and frequency as OpenAI's documentation defines them."""
    scores = torch.from_numpy(logits[:live].astype(np.float64))[None]
    history = torch.tensor([[*prompt, *generated]], dtype=torch.int64)
    if sampling.repetition_penalty != 1 and history.numel():
        scores = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(history, scores)
    for token_id in set(generated):
        scores[0, token_id] -= sampling.presence_penalty + generated.count(token_id) * sampling.frequency_penalty
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return torch.softmax(warpers(history, scores), dim=-1)[0].numpy()


def ours(sampling, logits, live, prompt=(), generated=(), kind=Sampler):
    sampler = kind(sampling, live, prompt)
    for token_id in generated:
        sampler.accept(token_id)
    ids, probabilities = sampler.distribution(logits)
    assert len(set(ids.tolist())) == len(ids)
    dense = np.zeros(live)
    dense[ids] = probabilities
    return dense


def random_logits(seed, size=VOCAB, scale=3.0):
    return (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)


CASES = {
    "defaults": Sampling(),
    "thinking": THINKING,
    "not thinking": NON_THINKING,
    "hot": Sampling(temperature=1.7),
    "cold": Sampling(temperature=0.05),
    "top-k": Sampling(top_k=50),
    "one token": Sampling(top_k=1),
    "more than the vocabulary": Sampling(top_k=2_000_000),
    "top-p": Sampling(top_p=0.9),
    "tiny top-p": Sampling(top_p=1e-6),
    "min-p": Sampling(min_p=0.05),
    "top-p and min-p": Sampling(top_p=0.8, min_p=0.02, temperature=0.9),
    "repetition": replace(THINKING, repetition_penalty=1.3),
    "less than one": replace(THINKING, repetition_penalty=0.8),
    "presence": replace(THINKING, presence_penalty=1.5),
    "frequency": replace(THINKING, frequency_penalty=-0.7),
    "everything": Sampling(0.8, 40, 0.9, 0.01, 0.5, 0.3, 1.1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [0.5, 3.0, 12.0])
@pytest.mark.parametrize("kind", [Sampler, ReferenceSampler])
def test_probabilities_equal_transformers(name, scale, kind):
    logits = random_logits(7, scale=scale)
    favorites = np.argsort(-logits[:LIVE])[:40].tolist()
    prompt, generated = [*favorites[:10], 5, 6], [*favorites[5:25] * 3, 6, 7]
    got = ours(CASES[name], logits, LIVE, prompt, generated, kind)
    np.testing.assert_allclose(got, reference(CASES[name], logits, LIVE, prompt, generated), atol=2e-6, rtol=2e-5)


SMALL = st.lists(st.sampled_from([-8, -3, -1.5, -0.25, 0, 0.5, 1, 2.25, 4]), min_size=1, max_size=300)


@settings(max_examples=400, deadline=None)
@given(
    values=SMALL,
    top_k=st.sampled_from([0, 1, 2, 3, 7, 30]),
    min_p=st.sampled_from([0, 0.03, 0.4, 1]),
    temperature=st.sampled_from([0.5, 1, 1.5]),
    repetition=st.sampled_from([1, 1.25, 0.5]),
    presence=st.sampled_from([0, 0.5]),
    history=st.lists(st.integers(0, 299), max_size=6),
)
def test_equals_transformers_among_equal_logits(values, top_k, min_p, temperature, repetition, presence, history):
    """Equal logits abound here: the k-th's equals stay, as in transformers."""
    logits = np.array(values, np.float32)
    prompt = [i for i in history[:3] if i < len(values)]
    generated = [i for i in history[3:] if i < len(values)]
    sampling = Sampling(temperature, top_k, 1.0, min_p, presence, 0.0, repetition)
    got = ours(sampling, logits, len(values), prompt, generated)
    np.testing.assert_allclose(got, reference(sampling, logits, len(values), prompt, generated), atol=1e-7, rtol=1e-5)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), top_k=st.integers(0, 400), top_p=st.floats(0.01, 0.999), size=st.integers(1, 9000))
def test_equals_transformers_at_any_size(seed, top_k, top_p, size):
    logits = random_logits(seed, size)
    sampling = Sampling(top_k=top_k, top_p=top_p)
    np.testing.assert_allclose(ours(sampling, logits, size), reference(sampling, logits, size), atol=2e-6, rtol=2e-5)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 60), spread=st.integers(1, 50))
def test_top_k_finds_the_largest_wherever_they_lie(seed, k, spread):
    """Few distinct values, clustered or spread over the whole vocabulary, against a full sort."""
    logits = np.floor(random_logits(seed) * spread / 10).astype(np.float32)
    ids, _ = Sampler(Sampling(top_k=k), LIVE).distribution(logits)
    bound = np.sort(logits[:LIVE])[-k]
    assert sorted(ids.tolist()) == np.flatnonzero(logits[:LIVE] >= bound).tolist()


def test_among_equals_top_p_keeps_the_lowest_ids():
    ids, probabilities = Sampler(Sampling(top_p=0.5), 8).distribution(np.zeros(8, np.float32))
    assert ids.tolist() == [0, 1, 2, 3]
    assert probabilities.tolist() == [0.25] * 4


@pytest.mark.parametrize("name", CASES)
def test_untrained_rows_are_never_chosen(name):
    logits = random_logits(3)
    logits[LIVE:] = 100
    sampler = Sampler(replace(CASES[name], seed=1), LIVE, prompt_ids=[LIVE, VOCAB, -1])
    ids, _ = sampler.distribution(logits)
    assert ids.max() < LIVE
    assert all(sampler.sample(logits) < LIVE for _ in range(5))
    sampler.accept(LIVE + 1)


def test_zero_temperature_takes_the_largest_and_among_equals_the_lowest_id():
    logits = np.array([1, 5, 2, 5, 9], np.float32)
    assert Sampler(Sampling(temperature=0), 4).sample(logits) == 1
    assert Sampler(Sampling(temperature=0, top_k=20, top_p=0.1), 5).sample(logits) == 4


def test_zero_temperature_heeds_penalties():
    logits = np.array([1, 5, 4.5, -3], np.float32)
    sampler = Sampler(Sampling(temperature=0, presence_penalty=1.0), 4)
    assert sampler.sample(logits) == 1
    sampler.accept(1)
    assert sampler.sample(logits) == 2


def test_presence_and_frequency_look_only_at_what_was_generated():
    logits = random_logits(1, 32)
    sampling = Sampling(presence_penalty=2, frequency_penalty=2)
    np.testing.assert_array_equal(ours(sampling, logits, 32, prompt=range(16)), ours(Sampling(), logits, 32))


def test_logits_are_left_unchanged():
    logits = random_logits(2)
    before = logits.copy()
    for sampling in CASES.values():
        ours(sampling, logits, LIVE, prompt=[1], generated=[2])
    np.testing.assert_array_equal(logits, before)


def test_a_long_history_is_counted_exactly():
    generated = np.random.default_rng(0).integers(0, 500, 3000).tolist()
    logits = random_logits(4, 500)
    sampling = Sampling(frequency_penalty=0.05, presence_penalty=0.5, repetition_penalty=1.2)
    got = ours(sampling, logits, 500, [1, 2], generated)
    np.testing.assert_allclose(got, reference(sampling, logits, 500, [1, 2], generated), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("sampling", [Sampling(), THINKING, Sampling(top_p=0.7), Sampling(min_p=0.1)])
def test_frequencies_follow_the_probabilities(sampling):
    """Pearson's chi-square over 20,000 draws; the seed is fixed, so the outcome is too."""
    logits = random_logits(5, 24, scale=1.2)
    expected = reference(sampling, logits, 24)
    sampler = Sampler(replace(sampling, seed=11), 24)
    draws = 20_000
    counts = np.bincount([sampler.sample(logits) for _ in range(draws)], minlength=24)
    assert counts[expected == 0].sum() == 0
    live = expected > 0
    chi_square = (((counts - draws * expected) ** 2)[live] / (draws * expected[live])).sum()
    freedom = live.sum() - 1
    # Wilson-Hilferty: the cube root of chi-square over its freedom is nearly normal; 4 sigma.
    spread = math.sqrt(2 / (9 * freedom))
    assert abs((chi_square / freedom) ** (1 / 3) - (1 - spread**2)) < 4 * spread


def test_the_seed_decides_the_tokens():
    logits = [random_logits(i, 1000) for i in range(50)]

    def tokens(seed):
        sampler = Sampler(replace(THINKING, seed=seed), 1000)
        return [sampler.sample(row) for row in logits]

    assert tokens(7) == tokens(7)
    assert tokens(7) != tokens(8)
    assert tokens(None) != tokens(None)


def test_sequences_of_a_batch_do_not_disturb_each_other():
    rows = [random_logits(i, 1000) for i in range(30)]
    alone = [
        [sampler.sample(row) for row in rows] for sampler in (Sampler(replace(THINKING, seed=s), 1000) for s in (1, 2))
    ]
    batch = [Sampler(replace(THINKING, seed=s), 1000) for s in (1, 2)]
    together = [[sampler.sample(row) for sampler in batch] for row in rows]
    assert alone == [list(column) for column in zip(*together, strict=True)]


def test_accepting_forced_tokens_draws_no_number():
    """A stop sentence fed between two samples leaves the later ones on the same random numbers."""
    row = random_logits(9, 1000)
    plain, forced = (Sampler(replace(THINKING, seed=3), 1000) for _ in range(2))
    assert plain.sample(row) == forced.sample(row)
    for token_id in (1, 2, 3):
        forced.accept(token_id)
    assert [plain.sample(row) for _ in range(20)] == [forced.sample(row) for _ in range(20)]


@pytest.mark.parametrize("sampling", [THINKING, Sampling(), Sampling(top_p=0.9), Sampling(temperature=0)])
def test_minus_infinity_forbids_a_token(sampling):
    logits = np.full(5000, -np.inf, np.float32)
    logits[[17, 4000]] = [1, 1.5]
    assert {Sampler(replace(sampling, seed=s), 5000).sample(logits) for s in range(40)} <= {17, 4000}
    logits[:] = -np.inf
    with pytest.raises(EngineError, match="every token is forbidden"):
        Sampler(sampling, 5000).sample(logits)


@pytest.mark.parametrize("sampling", [THINKING, Sampling(), Sampling(top_p=0.9), Sampling(temperature=0)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 2500, 4999])
def test_overflowed_logits_are_an_error_and_not_a_token(sampling, bad, place):
    logits = random_logits(0, 5000)
    logits[place] = bad
    with pytest.raises(EngineError, match="expected finite logits"):
        Sampler(sampling, 5000).sample(logits)


@pytest.mark.parametrize("shape", [(10,), (1, 100), ()])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(EngineError, match="expected logits of shape"):
        Sampler(Sampling(), 100).sample(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [-0.1, 101, math.nan, math.inf, "1", None, True]),
        ("top_k", [-1, 1.0, 2**31, "20", True]),
        ("top_p", [0, -1, 1.01, math.nan, None]),
        ("min_p", [-0.1, 1.1, math.nan, "0"]),
        ("presence_penalty", [-2.1, 2.1, math.nan]),
        ("frequency_penalty", [-2.1, 2.1, None]),
        ("repetition_penalty", [0, -1, 0.009, 101, math.nan]),
        ("seed", [-1, 2**64, 1.5, "1", True]),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, values):
    assert name in {field.name for field in fields(Sampling)}
    for value in values:
        with pytest.raises(RequestError, match=f"^{name}: expected") as caught:
            Sampling(**{name: value})
        assert "\n" not in str(caught.value)


def test_numbers_of_numpy_become_those_of_python():
    sampling = Sampling(temperature=np.float32(0.5), top_k=np.int64(7), seed=np.uint64(3), min_p=np.half(0.25))
    values = (sampling.temperature, sampling.top_k, sampling.seed, sampling.min_p)
    assert values == (0.5, 7, 3, 0.25)
    assert [type(value) for value in values] == [float, int, int, float]


def test_the_largest_seed_and_numpy_free_integers_work():
    assert Sampling(top_k=2**31 - 1).top_k == 2**31 - 1
    assert Sampler(Sampling(seed=2**64 - 1), 4).sample(np.zeros(4, np.float32)) in range(4)
    assert type(Sampler(THINKING, 4).sample(np.zeros(4, np.float32))) is int
