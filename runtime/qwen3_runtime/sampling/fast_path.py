"""The fast path: which token all logits would give, from the largest of them alone.

A step may hand over the k largest logits of a row and the log-sum-exp L of all of them (`Top`). Write z for a logit,
s for the score that penalties make of it, p for the largest score, t for the temperature, and f for the floor: the
smallest of the k largest logits. A token's weight is exp((s - p) / t). Scores differ from logits only for the tokens
with penalties, whose logits are looked up; call these and the k largest the known tokens.

1. Order. No other token's logit is above f. So the known tokens that score above f come first, in their order
   (`above_floor` without penalties, `rank_top` with them). Those at f may have equals among the others, and are not
   used.
2. Weight of the others. Under t = 1 it is exp(L - p) less the sum of exp(z - p) over the known tokens, with their
   logits as they were before penalties, since L was made of those. Any other t turns a weight exp(z - p) into

       exp((z - p) / t) = exp(z - p) * exp((z - p) * (1 / t - 1))

   and for t < 1 the second factor is at most exp((f - p) * (1 / t - 1)), because z <= f. For t > 1 there is no such
   bound, and the weight may be anything. L is float32, a sum of many terms: it may be off by what
   `_LOG_SUM_EXP_ERROR` and `_LOG_SUM_EXP_RELATIVE_ERROR` say, which widens the bounds.
3. Cut and draw. Top-k needs no weight of the others. Top-p keeps the tokens before which less than top_p of all
   weight lies, and a draw picks the token at a share of all weight: where the smallest and the largest possible sum of
   all weights give the same token, it is the token. Min-p compares with the peak and needs no sum.

Where a tie at the floor, a nucleus that reaches further or a draw among the unlikely leaves a doubt, the answer is
None, and the sampler reads all logits, which are there in any case. So the token never depends on which way was
taken.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime.sampling.ranking import Ranking, weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.sampling.penalties import Penalties
    from qwen3_runtime.step import Top

# A log_sum_exp may be off by this and by two units in its last place: a few hundred float32 additions in a row, of
# terms with a relative error of some 1e-6 each. Ten times what the kernels were seen to make.
_LOG_SUM_EXP_ERROR = 1e-4
_LOG_SUM_EXP_RELATIVE_ERROR = 2.0**-22
# Float64 sums of the same weights in different orders.
_SUM_RELATIVE_ERROR = 1e-9


def rank_top(
    top: Top, logits: NDArray[np.float32], penalties: Penalties, tokenizer_vocab_size: int, temperature: float | None
) -> Ranking | None:
    """Rank by the largest logits that a step found, without a look at the others.

    Args:
        top: of one row.
        logits: float32 [V], of which only those of tokens with penalties are read.
        penalties: what changes logits.
        tokenizer_vocab_size: tokens in all.
        temperature: above 0; None where `total` is not needed.

    Returns:
        The ranking, or None if these logits say nothing about the order: where a logit is not finite, or penalties
        put all of them behind the others.
    """
    log_sum_exp = float(top.log_sum_exp)
    if not math.isfinite(log_sum_exp):
        return None
    floor = float(top.values[-1]) if len(top.values) < tokenizer_vocab_size else -math.inf  # no other logit is above it
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
        total = ((sure + low) * (1 - _SUM_RELATIVE_ERROR), (sure + high) * (1 + _SUM_RELATIVE_ERROR))
    return Ranking(ids[:count], scores[:count], floor == -math.inf, total)


def above_floor(top: Top, tokenizer_vocab_size: int) -> list[float]:
    """The largest logits that no token but those in `top` can equal, largest first; none where one is not finite."""
    scores: list[float] = top.values.tolist()
    if not (math.isfinite(top.log_sum_exp) and math.isfinite(scores[0])):
        return []
    floor = scores[-1] if len(scores) < tokenizer_vocab_size else -math.inf
    return scores[: bisect_left(scores, -floor, key=operator.neg)]


@np.errstate(over="ignore", invalid="ignore")
def _bounds_of_others(
    log_sum_exp: float, known: NDArray[np.float32], peak: float, floor: float, temperature: float
) -> tuple[float, float]:
    """Bounds of the summed weights of all logits but the `known` ones: the module's second point."""
    if floor == -math.inf:
        return 0.0, 0.0
    everything = float(np.exp(np.float64(log_sum_exp - peak)))
    others = everything - float(weights(known, peak, 1.0).sum())
    if not math.isfinite(others):
        return 0.0, math.inf
    error = everything * (_LOG_SUM_EXP_ERROR + abs(log_sum_exp) * _LOG_SUM_EXP_RELATIVE_ERROR)
    if temperature == 1:
        return max(others - error, 0.0), max(others + error, 0.0)
    if temperature > 1:
        return 0.0, math.inf
    return 0.0, max(others + error, 0.0) * math.exp((floor - peak) * (1 / temperature - 1))
