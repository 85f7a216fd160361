"""Where the backend finds the largest logits, an engine says what it says without them.

Reference: the same engine without them
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from built_engine import SIZES, build_engine, prompts

from qwen3_runtime import Engine, EngineError, Request, Sampling
from qwen3_runtime.sampling import THINKING
from qwen3_runtime.step import Output, Step

if TYPE_CHECKING:
    from pathlib import Path

WORDS = 5000
SAMPLINGS = [
    THINKING,
    Sampling(temperature=0),
    Sampling(),
    Sampling(temperature=0.7, top_p=0.9),
    Sampling(min_p=0.05, temperature=1.5),
    replace(THINKING, presence_penalty=1.5, repetition_penalty=1.1),
]


@pytest.fixture(scope="module")
def engine_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    return build_engine(folder, target="ort-plugins", cache="fp16", sizes={**SIZES, "vocab_size": WORDS})[0]


def step(top_k: int, prompt: list[int]) -> Step:
    return Step(
        input_ids=np.array(prompt, np.int64),
        query_start=np.array([0, len(prompt)], np.int32),
        context_len=np.zeros(1, np.int32),
        block_table=np.zeros((1, 1), np.int32),
        logits_rows=np.array([len(prompt) - 1, 0], np.int32),
        top_k=top_k,
    )


def test_a_step_gives_the_largest_logits_that_it_was_asked_for(engine_path: Path) -> None:
    with Engine.open(engine_path, threads=1) as engine:
        alone = engine.backend.run(step(0, [5, 6, 7]))
        assert alone.top is None
        for k in (1, 21, WORDS):
            found = engine.backend.run(step(k, [5, 6, 7]))
            np.testing.assert_array_equal(found.values, alone.values)
            assert found.top is not None
            np.testing.assert_array_equal(found.top.ids, np.argsort(-alone.values, axis=1, kind="stable")[:, :k])
            for row in (0, 1):
                one = found[row].top
                assert one is not None
                np.testing.assert_array_equal(one.values, alone.values[row][one.ids])
                expected = np.log(np.exp(alone.values[row].astype(np.float64)).sum())
                assert one.log_sum_exp == pytest.approx(expected, abs=1e-5)
        with pytest.raises(EngineError, match=f"top_k is {WORDS + 1}, expected 0 to {WORDS}"):
            engine.backend.run(step(WORDS + 1, [5, 6, 7]))
        np.testing.assert_array_equal(engine.backend.run(step(0, [5, 6, 7])).values, alone.values)


def test_requests_of_every_kind_together_say_the_same_without_the_largest_logits(engine_path: Path) -> None:
    requests = [
        Request(prompt=prompt, max_tokens=14, sampling=sampling, seed=seed)
        for seed, (prompt, sampling) in enumerate(zip(prompts(12), SAMPLINGS * 2, strict=True))
    ]
    with Engine.open(engine_path, threads=1, max_sequences=4) as engine:
        asked: list[int] = []
        run = engine.backend.run

        def watched(step: Step) -> Output:
            asked.append(step.top_k)
            return run(step)

        engine.backend.run = watched  # type: ignore[method-assign]
        helped = [done.tokens for done in engine.generate(requests)]
        engine.backend.run = lambda step: run(replace(step, top_k=0))  # type: ignore[method-assign]
        assert [done.tokens for done in engine.generate(requests)] == helped
    assert {21, 129} <= set(asked)
