"""The fast sampler chooses what the plain one chooses, and an engine runs with either.

Reference: a plain sampler in float64
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedBackend, make_engine
from test_sampling_from_top import SAMPLINGS, peaked, top_of

from qwen3_runtime import Engine, Request, RequestError, Sampling, StepFailedError
from qwen3_runtime.sampling import ReferenceSampler, Sampler

WORDS = 400


@settings(max_examples=300, deadline=None)
@given(
    sampling=SAMPLINGS,
    seed=st.integers(0, 2**32),
    size=st.sampled_from([1, 2, 7, 130, 190, 3000]),
    height=st.sampled_from([0.0, 14.0, 40.0]),
    spread=st.sampled_from([0.1, 2.0, 30.0]),
    helped=st.booleans(),
)
def test_both_samplers_choose_the_same_tokens(sampling, seed, size, height, spread, helped):
    """Rows without ties: where two tokens are closer than float32 rounds penalties to, they may differ."""
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, size + 3, 20).tolist()
    fast, plain = (kind(replace(sampling, seed=seed), size, prompt) for kind in (Sampler, ReferenceSampler))
    for _ in range(6):
        row = peaked(rng, size + 5, spread=spread, height=height)
        top = top_of(row[:size], fast.top_k) if helped and fast.top_k else None
        token = fast.sample(row, top)
        assert token == plain.sample(row)
        for sampler in (fast, plain):
            sampler.accept(token)
            for none in (-1, size, size + 1):  # no ids of the tokenizer
                sampler.accept(none)
                sampler.forbid(none)
        if size > 20:
            barred = int(rng.integers(0, size))
            fast.forbid(barred)
            plain.forbid(barred)


@pytest.mark.parametrize(("row", "message"), [(np.nan, "found nan"), (np.inf, "found inf"), (-np.inf, "forbidden")])
def test_the_reference_refuses_rows_that_the_fast_sampler_refuses(row, message):
    for kind in (Sampler, ReferenceSampler):
        with pytest.raises(StepFailedError, match=message):
            kind(Sampling(), 3).sample(np.full(3, row, np.float32))
        with pytest.raises(StepFailedError, match="expected logits of shape"):
            kind(Sampling(), 3).sample(np.zeros(2, np.float32))


@pytest.mark.parametrize("kind", [Sampler, ReferenceSampler])
def test_greedy_is_a_distribution_of_one_token(kind):
    ids, probabilities = kind(Sampling(temperature=0), 3).distribution(np.array([1, 5, 2, 9], np.float32))
    assert (ids.tolist(), probabilities.tolist()) == ([1], [1.0])


def test_an_engine_runs_with_either_sampler():
    def logits(tokens):
        return peaked(np.random.default_rng(tokens), WORDS)

    said = []
    for name in ("fast", "reference"):
        backend = ScriptedBackend(logits=logits, vocab=WORDS, live=WORDS)
        sizes = {"vocab_size": WORDS, "tokenizer_vocab_size": WORDS, "task": "completion", "eos": ()}
        engine = make_engine(backend, None, None, sampler=name, **sizes)
        request = Request(prompt=[1, 2], max_tokens=30, temperature=0.9, top_k=20, presence_penalty=0.5, seed=3)
        said.append(engine.generate([request])[0].tokens)
        assert {step.top_k > 0 for step in backend.steps} == {name == "fast"}
    assert said[0] == said[1]
    assert len(set(said[0])) > 5


def test_an_unknown_sampler_is_refused():
    with pytest.raises(RequestError, match="sampler: expected 'fast' or 'reference', found 'exact'") as caught:
        Engine.open("/", sampler="exact")  # type: ignore[arg-type]
    assert caught.value.field == "sampler"
