"""Choosing the next token from the logits.

The order of operations, equal to transformers' processors and warpers:

1. ids beyond the tokenizer's vocabulary are never considered (those rows were not trained);
2. repetition penalty, over prompt and generated tokens: positive logits are divided, negative ones multiplied;
3. presence and frequency penalties, over generated tokens only: `logit -= presence + frequency * count`
   (OpenAI's definition);
4. temperature; 0 takes the largest logit (the lowest id among equals) and skips the rest;
5. top-k: logits below the k-th largest are dropped, so equals of the k-th stay;
6. top-p: the most probable tokens until their mass reaches `top_p`, always at least one;
7. min-p: tokens less probable than `min_p` times the most probable are dropped;
8. one uniform number in [0, 1) from PCG64(seed) picks a token by inverse transform.

Each `sample` consumes exactly one number (none at temperature 0), so a sequence's tokens depend on its seed and its
logits alone, never on the batch it ran in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime.errors import EngineError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# Block maxima narrow the search for the k largest: 64 vectorised passes instead of a partition of the vocabulary.
_ROWS = 64
# Top-p without top-k sorts this many candidates first, then all: a nucleus is rarely larger.
_NUCLEUS_SIZES = (1024, 16_384)


def _check_number(name: str, value: object, low: float, high: float, *, above_low: bool = False) -> None:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if fits and isinstance(value, int | float):
        fits = (low < value if above_low else low <= value) and value <= high
    if not fits:
        interval = f"above {low} and at most {high}" if above_low else f"from {low} to {high}"
        raise RequestError(f"{name}: expected a number {interval}, found {value!r}")


def _check_integer(name: str, value: object, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
        raise RequestError(f"{name}: expected an integer from 0 to {high}, found {value!r}")


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. The defaults sample from the model's own distribution, unchanged.

    Attributes:
        temperature: 0 to 100; 0 is greedy.
        top_k: tokens to keep; 0 keeps all.
        top_p: probability mass to keep, above 0 and at most 1.
        min_p: smallest probability relative to the most probable token, 0 to 1.
        presence_penalty: -2 to 2, subtracted once from each token that was generated.
        frequency_penalty: -2 to 2, subtracted for each time that a token was generated.
        repetition_penalty: above 0, at most 100; above 1 makes tokens of prompt and generation less likely.
        seed: 0 to 2**64 - 1; None takes a new one from the operating system.

    Raises:
        RequestError: a value outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 0, 100)
        _check_number("top_p", self.top_p, 0, 1, above_low=True)
        _check_number("min_p", self.min_p, 0, 1)
        _check_number("presence_penalty", self.presence_penalty, -2, 2)
        _check_number("frequency_penalty", self.frequency_penalty, -2, 2)
        _check_number("repetition_penalty", self.repetition_penalty, 0, 100, above_low=True)
        _check_integer("top_k", self.top_k, 2**31 - 1)
        if self.seed is not None:
            _check_integer("seed", self.seed, 2**64 - 1)

    @property
    def greedy(self) -> bool:
        """Whether the choice is always the largest logit."""
        return self.temperature == 0


# The values that the Qwen3 model cards recommend for the two modes.
THINKING = Sampling(temperature=0.6, top_p=0.95, top_k=20)
NON_THINKING = Sampling(temperature=0.7, top_p=0.8, top_k=20)


class Sampler:
    """Chooses the tokens of one sequence.

    Args:
        sampling: what to do.
        live_vocab_size: `Tokenizer.live_vocab_size`; logits from here on are ignored.
        prompt_ids: the prompt, which only the repetition penalty looks at.
    """

    def __init__(self, sampling: Sampling, live_vocab_size: int, prompt_ids: Iterable[int] = ()) -> None:
        self.sampling = sampling
        self._live = live_vocab_size
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))
        self._generated = _Tally() if sampling.presence_penalty or sampling.frequency_penalty else None
        self._seen = _Tally() if sampling.repetition_penalty != 1 else None
        if self._seen is not None:
            for token_id in prompt_ids:
                self._count(self._seen, token_id)

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next token.

        Args:
            logits: float32 [V], V at least `live_vocab_size`; left unchanged. -inf forbids a token.

        Raises:
            EngineError: logits of another shape, NaN or +inf among them, or no token left to choose.
        """
        ids, probabilities = self.distribution(logits)
        if self.sampling.greedy:
            return int(ids[0])
        cumulative = np.cumsum(probabilities)
        threshold = self._random.random() * cumulative[-1]
        index = int(np.searchsorted(cumulative, threshold, side="right"))
        return int(ids[min(index, len(ids) - 1)])

    def accept(self, token_id: int) -> None:
        """Count a token that now belongs to the sequence, for the penalties. Constant time."""
        if self._generated is not None:
            self._count(self._generated, token_id)
        if self._seen is not None:
            self._count(self._seen, token_id)

    def distribution(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The tokens that can be chosen and their probabilities.

        Arguments and errors as for `sample`.

        Returns:
            ids int64 [N] and probabilities float64 [N], which add up to 1: most probable first (ids ascending among
            equals) under top-k or top-p, else by ascending id. Under temperature 0 one token.
        """
        sampling = self.sampling
        scores = self._scores(logits)
        if sampling.greedy:
            best = int(np.argmax(scores))
            _check_largest(scores[best])
            return np.array([best], np.int64), np.ones(1)
        if 0 < sampling.top_k < len(scores):
            ids, weights = _by_weight(scores, _largest(scores, sampling.top_k), sampling.temperature)
            total = float(weights.sum())
        elif sampling.top_p < 1:
            ids, weights, total = _head(scores, sampling.temperature, sampling.top_p)
        else:
            ids, weights = np.arange(len(scores)), _weights(scores, scores.max(), sampling.temperature)
        keep = weights >= max(sampling.min_p * weights.max(), np.finfo(np.float64).tiny)
        if sampling.top_p < 1:
            heavier = np.cumsum(weights) - weights
            keep &= heavier < sampling.top_p * total
        ids, weights = ids[keep], weights[keep]
        return ids, weights / weights.sum()

    @np.errstate(over="ignore")  # an overflow is found where the largest score is looked at
    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of the live vocabulary after all penalties; a view of `logits` where there are none."""
        if logits.ndim != 1 or len(logits) < self._live:
            raise EngineError(f"expected logits of shape [V] with V >= {self._live}, found {list(logits.shape)}")
        scores = logits[: self._live]
        if self._seen is None and self._generated is None:
            return scores
        scores = scores.copy()
        if self._seen is not None:
            ids, _ = self._seen.entries()
            penalty = np.float32(self.sampling.repetition_penalty)
            seen = scores[ids]
            scores[ids] = np.where(seen < 0, seen * penalty, seen / penalty)
        if self._generated is not None:
            ids, counts = self._generated.entries()
            scores[ids] -= self.sampling.presence_penalty + self.sampling.frequency_penalty * counts
        return scores

    def _count(self, tally: _Tally, token_id: int) -> None:
        if 0 <= token_id < self._live:
            tally.add(token_id)


class _Tally:
    """How often each token occurred, as arrays that index the logits."""

    def __init__(self) -> None:
        self._slot: dict[int, int] = {}
        self._ids = np.zeros(64, np.int64)
        self._counts = np.zeros(64, np.float32)

    def add(self, token_id: int) -> None:
        slot = self._slot.setdefault(token_id, len(self._slot))
        if slot == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[slot] = token_id
        self._counts[slot] += 1

    def entries(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids, each once, and their counts."""
        return self._ids[: len(self._slot)], self._counts[: len(self._slot)]


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Ids, ascending, of all scores that reach the k-th largest; more than k among equals, none of them -inf.

    The k largest lie in blocks whose maximum reaches the k-th largest block maximum. Blocks are columns of the
    scores laid out in rows, so that the maxima are a few long vector operations.
    """
    columns = len(scores) // _ROWS
    if columns <= k:
        candidates = np.arange(len(scores))
    else:
        maxima = scores[: _ROWS * columns].reshape(_ROWS, columns).max(axis=0)
        _check_largest(maxima.max(), allow_none=True)
        bound = np.partition(maxima, columns - k)[columns - k]
        blocks = np.flatnonzero((maxima >= bound) & (maxima > -np.inf))
        inside = (np.arange(0, _ROWS * columns, columns)[:, None] + blocks).ravel()
        candidates = np.concatenate([inside, np.arange(_ROWS * columns, len(scores))])
    values = scores[candidates]
    if len(values):
        _check_largest(values.max(), allow_none=True)
    if len(values) > k:
        bound = np.partition(values, len(values) - k)[len(values) - k]
        candidates = candidates[values >= bound]
    return candidates[scores[candidates] > -np.inf]


def _head(
    scores: NDArray[np.float32], temperature: float, top_p: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Ids and weights that contain the nucleus of mass `top_p`, heaviest first, and the mass of all scores."""
    total = float(_weights(scores, scores.max(), temperature).sum())
    for size in _NUCLEUS_SIZES:
        ids, weights = _by_weight(scores, _largest(scores, size), temperature)
        if weights.sum() >= top_p * total:
            return ids, weights, total
    ids, weights = _by_weight(scores, np.flatnonzero(scores > -np.inf), temperature)
    return ids, weights, float(weights.sum())


def _by_weight(
    scores: NDArray[np.float32], ids: NDArray[np.int64], temperature: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`ids` (ascending) with their weights, heaviest first, ascending ids among equals."""
    values = scores[ids]
    order = np.argsort(-values, kind="stable")
    ids, values = ids[order], values[order]
    return ids, _weights(values, values[0] if len(values) else -np.inf, temperature)


def _weights(scores: NDArray[np.float32], peak: np.float32 | float, temperature: float) -> NDArray[np.float64]:
    """Unnormalised probabilities, 1 for the most probable token."""
    _check_largest(peak)
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the largest to -inf, which is weight 0
        return np.exp((scores.astype(np.float64) - float(peak)) / temperature)


def _check_largest(value: np.float32 | float, *, allow_none: bool = False) -> None:
    if value == -np.inf:
        if allow_none:
            return
        raise EngineError("every token is forbidden: the logits of the vocabulary are all -inf")
    if not math.isfinite(value):
        raise EngineError(f"expected finite logits, found {value}: the engine's numbers overflowed")
