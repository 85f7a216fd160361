"""What it takes to choose a token: from the largest logits that an engine hands over, and from all of them.

    python benchmarks/sampling.py

The rows are synthetic: `steep` has 200 tokens that stand out of 151,936, as a language model's has; `flat` has none.
Times are the least of many repetitions, without the step that computes the logits.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from qwen3_runtime.sampling import THINKING, Sampler, Sampling
from qwen3_runtime.step import Top

VOCAB, LIVE, REPEATS = 151_936, 151_669, 100
SETTINGS = {
    "greedy": Sampling(temperature=0),
    "thinking": THINKING,
    "thinking, penalties": replace(THINKING, presence_penalty=1.5, repetition_penalty=1.1),
    "top-p 0.9": Sampling(temperature=0.7, top_p=0.9),
    "min-p 0.05": Sampling(min_p=0.05),
    "no cut": Sampling(),
}


def rows() -> dict[str, np.ndarray]:
    """Logits float32 [VOCAB] by name."""
    rng = np.random.default_rng(0)
    flat = rng.standard_normal(VOCAB, np.float32)
    steep = 2 * flat
    steep[rng.integers(0, LIVE, 200)] += np.linspace(14, 2, 200, dtype=np.float32)
    return {"steep": steep, "flat": flat}


def top_of(logits: np.ndarray, k: int) -> Top:
    """The k largest logits, as an engine gives them."""
    live = logits[:LIVE].astype(np.float64)
    ids = np.argsort(-live, kind="stable")[:k]
    log_sum_exp = np.log(np.exp(live - live.max()).sum()) + live.max()
    return Top(logits[ids], ids.astype(np.int32), np.float32(log_sum_exp))


def least_microseconds(sampler: Sampler, logits: np.ndarray, top: Top | None) -> float:
    """The shortest time of one token."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        sampler.sample(logits, top)
        seconds.append(time.perf_counter() - started)
    return min(seconds) * 1e6


def main() -> None:
    """Measure and print."""
    print(f"{'microseconds a token':<24}{'row':<8}{'with the largest':>18}{'from all logits':>18}")
    for row, logits in rows().items():
        for name, sampling in SETTINGS.items():
            sampler = Sampler(replace(sampling, seed=1), LIVE, range(500))
            for token_id in range(0, 2100, 7):
                sampler.accept(token_id)
            top = top_of(logits, sampler.top_k) if sampler.top_k else None
            found = "not asked for" if top is None else f"{least_microseconds(sampler, logits, top):.0f}"
            print(f"{name:<24}{row:<8}{found:>18}{least_microseconds(sampler, logits, None):>18.0f}")


if __name__ == "__main__":
    main()
