"""The tokens of a row in order of their scores, as many of them as are needed, and what is known of the rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qwen3_runtime.errors import StepFailedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRONT_TOKENS = 128
"""Without top-k and top-p, so many tokens are in order of their probability and the rest in order of their ids: nearly
every draw falls among the former, and sorting 150,000 takes long."""

SMALLEST_TEMPERATURE = 1e-200
"""No float32 overflows when it is divided by it, and only the tokens of the peak have any weight under it."""

# Block maxima narrow the search for the k largest: 64 vectorized passes instead of a partition of the vocabulary.
_PASSES = 64
# From so many on, a stable argsort takes longer than sorting 64-bit keys.
_KEY_SORT_TOKENS = 1000


class Ranking(NamedTuple):
    """The tokens that score highest, ids ascending among equals. Every other token scores less than the last of them.

    Attributes:
        ids: int64 [n].
        scores: float32 [n], logits after penalties; none is -inf.
        complete: whether all other tokens are forbidden.
        total: between which bounds the sum of all weights exp((score - scores[0]) / temperature) lies.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    complete: bool
    total: tuple[float, float]

    def first(self, count: int) -> Ranking:
        """The first `count` tokens only; one behind them may equal the last."""
        if len(self.ids) <= count:
            return self
        return Ranking(self.ids[:count], self.scores[:count], False, self.total)


def rank_row(scores: NDArray[np.float32], count: int, total: float) -> Ranking:
    """Rank the `count` highest scores of all tokens, and all that equal the last of them.

    Args:
        scores: float32 [tokenizer_vocab_size], after penalties.
        count: at least 1.
        total: sum of all weights.

    Raises:
        StepFailedError: NaN or +inf among the scores, or nothing but -inf.
    """
    ids = _largest(scores, count) if count < len(scores) else np.flatnonzero(scores > -np.inf)
    values = scores[ids]
    check_largest(values.max() if len(values) else -np.inf)
    order = _descending(values)
    return Ranking(ids[order], values[order], len(ids) < count or count >= len(scores), (total, total))


def weights(
    scores: NDArray[np.floating[Any]], peak: np.floating[Any] | float, temperature: float
) -> NDArray[np.float64]:
    """Unnormalized probabilities, 1 for a token that scores `peak`."""
    return np.exp((scores.astype(np.float64) - float(peak)) / max(temperature, SMALLEST_TEMPERATURE))


def check_shape(logits: NDArray[np.float32], tokenizer_vocab_size: int) -> None:
    """Refuse logits that are no row over the vocabulary.

    Raises:
        StepFailedError: with the shape.
    """
    if logits.ndim != 1 or len(logits) < tokenizer_vocab_size:
        raise StepFailedError(
            f"expected logits of shape [V] with V >= {tokenizer_vocab_size}, found {list(logits.shape)}"
        )


def check_largest(value: np.floating[Any] | float, *, allow_none: bool = False) -> None:
    """Refuse a row by its largest score.

    Raises:
        StepFailedError: it is NaN or +inf; or -inf, unless `allow_none`.
    """
    if value == -np.inf:
        if allow_none:
            return
        raise StepFailedError("every token is forbidden: the logits of the vocabulary are all -inf")
    if not math.isfinite(value):
        raise StepFailedError(f"expected finite logits, found {value}: the engine's numbers overflowed")


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Ids, ascending, of all scores that reach the k-th largest; more than k among equals, none of them -inf.

    The k largest lie in blocks whose maximum reaches the k-th largest block maximum. Blocks are columns of the
    scores laid out in rows, so that the maxima are a few long vector operations.
    """
    columns = len(scores) // _PASSES
    if columns <= k:
        candidates = np.arange(len(scores))
    else:
        maxima = scores[: _PASSES * columns].reshape(_PASSES, columns).max(axis=0)
        check_largest(maxima.max(), allow_none=True)
        bound = np.partition(maxima, columns - k)[columns - k]
        blocks = np.flatnonzero((maxima >= bound) & (maxima > -np.inf))
        inside = (np.arange(0, _PASSES * columns, columns)[:, None] + blocks).ravel()
        candidates = np.concatenate([inside, np.arange(_PASSES * columns, len(scores))])
    values = scores[candidates]
    if len(values):
        check_largest(values.max(), allow_none=True)
    if len(values) > k:
        bound = np.partition(values, len(values) - k)[len(values) - k]
        candidates = candidates[values >= bound]
    candidates = candidates[scores[candidates] > -np.inf]
    candidates.sort()
    return candidates


def _descending(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """The order from the largest to the smallest value, first come first among equals. No value is NaN."""
    if len(values) < _KEY_SORT_TOKENS:
        return np.argsort(-values, kind="stable")
    # A float's bits, less the sign, order like the float; those of negative ones the other way round.
    bits = (values + np.float32(0)).view(np.uint32)  # + 0 makes 0 of -0
    descending = np.where(bits >> 31, bits, bits ^ 0x7FFFFFFF).astype(np.uint64)
    keys = descending << np.uint64(32) | np.arange(len(values), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.intp)
