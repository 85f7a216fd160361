"""Choosing the next token from the logits: the parameters, the sampler, and a plain reference to hold it to.

The order of operations, equal to transformers' processors and warpers:

1. ids that the tokenizer does not have are never considered (those rows were not trained);
2. repetition penalty, over prompt and generated tokens: positive logits are divided, negative ones multiplied;
3. presence and frequency penalties, over generated tokens only: `logit -= presence + frequency * count`
   (OpenAI's definition);
4. temperature; 0 takes the largest logit (the lowest id among equals) and skips the rest;
5. top-k: logits below the k-th largest are dropped, so equals of the k-th stay;
6. top-p: the most probable tokens until their mass reaches `top_p`, always at least one;
7. min-p: tokens less probable than `min_p` times the most probable are dropped;
8. one uniform number in [0, 1) from PCG64(seed) picks a token by inverse transform, the most probable first, ids
   ascending among equals. Without top-k and top-p the tokens behind the first 128 come by ascending id.

`Sampler` is fast and `ReferenceSampler` plain; both choose the same tokens from the same seed.
"""

from __future__ import annotations

from typing import Final, Literal

from qwen3_runtime.sampling.parameters import MAX_TOP_K, NON_THINKING, RANGES, THINKING, Sampling
from qwen3_runtime.sampling.reference import ReferenceSampler
from qwen3_runtime.sampling.sampler import Sampler

SamplerName = Literal["fast", "reference"]
SAMPLERS: Final[dict[SamplerName, type[Sampler | ReferenceSampler]]] = {"fast": Sampler, "reference": ReferenceSampler}

__all__ = [
    "MAX_TOP_K",
    "NON_THINKING",
    "RANGES",
    "SAMPLERS",
    "THINKING",
    "ReferenceSampler",
    "Sampler",
    "SamplerName",
    "Sampling",
]
