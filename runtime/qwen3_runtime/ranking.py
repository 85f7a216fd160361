"""The tokens of a row in order of their scores, as many of them as are needed, and what is known of the rest."""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qwen3_runtime.errors import StepFailedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.penalties import Penalties
    from qwen3_runtime.step import Top

# Block maxima narrow the search for the k largest: 64 vectorised passes instead of a partition of the vocabulary.
_ROWS = 64
# Where a stable argsort takes longer than sorting 64-bit keys.
_MANY = 1000
# A log_sum_exp may be off by this and by two units in its last place: a few hundred float32 additions in a row, of
# terms with a relative error of some 1e-6 each. Ten times what the kernels were seen to make.
_SUM_ERROR = 1e-4
_LAST_PLACES = 2.0**-22
LEAST_TEMPERATURE = 1e-200
# Float64 sums of the same weights in different orders.
_ROUNDING = 1e-9


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


def rank_top(
    top: Top, logits: NDArray[np.float32], penalties: Penalties, live_vocab_size: int, temperature: float | None
) -> Ranking | None:
    """Rank by the largest logits that a step found, without a look at the others.

    Args:
        top: of one row.
        logits: float32 [V], of which only those of tokens with penalties are read.
        penalties: what changes logits.
        live_vocab_size: tokens in all.
        temperature: above 0; None where `total` is not needed.

    Returns:
        The ranking, or None if these logits say nothing about the order: where a logit is not finite, or penalties
        put all of them behind the others.
    """
    log_sum_exp = float(top.log_sum_exp)
    if not math.isfinite(log_sum_exp):
        return None
    floor = float(top.values[-1]) if len(top.values) < live_vocab_size else -math.inf  # no other logit is above it
    ids, scores, known = top.ids.astype(np.int64), top.values, top.values
    if len(penalties):
        free = np.array([token_id not in penalties for token_id in ids.tolist()])
        ids = np.concatenate([ids[free], penalties.ids])
        scores = np.concatenate([scores[free], penalties.scores(logits)])
        known = np.concatenate([known[free], logits[penalties.ids]])
        order = np.lexsort((ids, -scores))
        ids, scores = ids[order], scores[order]
    # Another token may equal the floor, and come before those here that do.
    count = int(np.count_nonzero(scores > floor))
    if count == 0 or not math.isfinite(scores[0]):
        return None
    total = (math.nan, math.nan)
    if temperature is not None:
        sure = float(weights(scores, scores[0], temperature).sum())
        low, high = _bounds_of_others(log_sum_exp, known, float(scores[0]), floor, temperature)
        total = ((sure + low) * (1 - _ROUNDING), (sure + high) * (1 + _ROUNDING))
    return Ranking(ids[:count], scores[:count], floor == -math.inf, total)


def above_floor(top: Top, live_vocab_size: int) -> list[float]:
    """The largest logits that no token but those in `top` can equal, largest first; none where one is not finite."""
    scores: list[float] = top.values.tolist()
    if not (math.isfinite(top.log_sum_exp) and math.isfinite(scores[0])):
        return []
    floor = scores[-1] if len(scores) < live_vocab_size else -math.inf
    return scores[: bisect_left(scores, -floor, key=operator.neg)]


@np.errstate(over="ignore", invalid="ignore")
def _bounds_of_others(
    log_sum_exp: float, known: NDArray[np.float32], peak: float, floor: float, temperature: float
) -> tuple[float, float]:
    """Bounds of the summed weights of all logits but the `known` ones, none of which is above `floor`.

    At temperature 1 that is the sum of all, less the known. Another temperature t multiplies each weight by
    exp((logit - peak) * (1 / t - 1)); below 1 that is at most what it is for a logit at the floor.
    """
    if floor == -math.inf:
        return 0.0, 0.0
    everything = float(np.exp(np.float64(log_sum_exp - peak)))
    others = everything - float(weights(known, peak, 1.0).sum())
    if not math.isfinite(others):
        return 0.0, math.inf
    error = everything * (_SUM_ERROR + abs(log_sum_exp) * _LAST_PLACES)
    if temperature == 1:
        return max(others - error, 0.0), max(others + error, 0.0)
    if temperature > 1:
        return 0.0, math.inf
    return 0.0, max(others + error, 0.0) * math.exp((floor - peak) * (1 / temperature - 1))


def rank_row(scores: NDArray[np.float32], count: int, total: float) -> Ranking:
    """Rank the `count` highest scores of all tokens, and all that equal the last of them.

    Args:
        scores: float32 [live vocabulary], after penalties.
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


def weights(scores: NDArray[np.float32], peak: np.float32 | float, temperature: float) -> NDArray[np.float64]:
    """Unnormalised probabilities, 1 for a token that scores `peak`."""
    # No float32 overflows when divided by the least temperature, under which only those of the peak have any weight.
    return np.exp((scores.astype(np.float64) - float(peak)) / max(temperature, LEAST_TEMPERATURE))


def check_largest(value: np.float32 | float, *, allow_none: bool = False) -> None:
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
    columns = len(scores) // _ROWS
    if columns <= k:
        candidates = np.arange(len(scores))
    else:
        maxima = scores[: _ROWS * columns].reshape(_ROWS, columns).max(axis=0)
        check_largest(maxima.max(), allow_none=True)
        bound = np.partition(maxima, columns - k)[columns - k]
        blocks = np.flatnonzero((maxima >= bound) & (maxima > -np.inf))
        inside = (np.arange(0, _ROWS * columns, columns)[:, None] + blocks).ravel()
        candidates = np.concatenate([inside, np.arange(_ROWS * columns, len(scores))])
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
    if len(values) < _MANY:
        return np.argsort(-values, kind="stable")
    # A float's bits, less the sign, order like the float; those of negative ones the other way round.
    bits = (values + np.float32(0)).view(np.uint32)  # + 0 makes 0 of -0
    descending = np.where(bits >> 31, bits, bits ^ 0x7FFFFFFF).astype(np.uint64)
    keys = descending << np.uint64(32) | np.arange(len(values), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.intp)
