"""The sampler: one token in a tenth of a millisecond or less, where the largest logits decide it.

It looks at the largest logits first (`fast_path`) and reads all of them where those leave a doubt. Either way the token
is that of `ReferenceSampler`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.sampling.fast_path import above_floor, rank_top
from qwen3_runtime.sampling.penalties import Penalties
from qwen3_runtime.sampling.ranking import (
    FRONT_TOKENS,
    SMALLEST_TEMPERATURE,
    check_largest,
    check_shape,
    rank_row,
    weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from qwen3_runtime.sampling.parameters import Sampling
    from qwen3_runtime.sampling.ranking import Ranking
    from qwen3_runtime.step import Top

# Up to so many candidates are weighed one by one in Python, which is faster than numpy's calls.
_MAX_SCALAR_TOKENS = 64
# Top-p without top-k sorts this many candidates first, then all: a nucleus is rarely larger.
_NUCLEUS_TOKENS = (FRONT_TOKENS, 1024, 16_384)
# More than this are not asked for apart.
_MAX_TOP_TOKENS = 1024
# Penalties move some of the largest logits away: up to so many more are asked for.
_MAX_SPARE_TOKENS = 64
# Weights are summed in blocks, so that only one block needs all its partial sums.
_BLOCK_TOKENS = 1024


class Sampler:
    """Chooses the tokens of one sequence.

    Args:
        sampling: what to do.
        tokenizer_vocab_size: ids that the tokenizer has; logits from here on are ignored.
        prompt_ids: the prompt, which only the repetition penalty looks at.
    """

    def __init__(self, sampling: Sampling, tokenizer_vocab_size: int, prompt_ids: Iterable[int] = ()) -> None:
        self.sampling = sampling
        self._size = tokenizer_vocab_size
        self._limit = sampling.top_k if sampling.top_k < tokenizer_vocab_size else 0
        self._smallest_weight = max(sampling.min_p, float(np.finfo(np.float64).tiny))  # weight of a token that is kept
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))
        self._penalties = Penalties(sampling, tokenizer_vocab_size)
        self._penalties.see(prompt_ids)

    @property
    def top_k(self) -> int:
        """How many of the largest logits `sample` would like to have apart; 0 where they would seldom decide."""
        if self.sampling.greedy:
            return 0  # the largest of all is found in less time than it takes to find and sum them for `Top`
        if not self._limit and self.sampling.temperature > 1 and self.sampling.min_p == 0:
            return 0  # a high temperature makes the many matter
        wanted = self._limit or FRONT_TOKENS
        if wanted > _MAX_TOP_TOKENS:
            return 0
        # One more, to see that the last of them has no equal.
        return min(wanted + 1 + min(len(self._penalties), _MAX_SPARE_TOKENS), self._size)

    def sample(self, logits: NDArray[np.float32], top: Top | None = None) -> int:
        """The next token.

        Args:
            logits: float32 [V], V at least `tokenizer_vocab_size`; left unchanged. -inf forbids a token.
            top: the largest of the first `tokenizer_vocab_size` of them, if known: the same token, found sooner.

        Raises:
            StepFailedError: logits of another shape, NaN or +inf among them, or no token left to choose.
        """
        check_shape(logits, self._size)
        number = 0.0 if self.sampling.greedy else self._random.random()
        token = None if top is None else self._pick_from_top(top, logits, number)
        return self._pick_from_all(self._scores(logits), number) if token is None else token

    def accept(self, token_id: int) -> None:
        """Count a token that now belongs to the sequence, for the penalties. Constant time."""
        self._penalties.count(token_id)

    def forbid(self, token_id: int) -> None:
        """Never choose a token from now on."""
        self._penalties.forbid(token_id)

    def distribution(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The tokens that can be chosen and their probabilities.

        Arguments and errors as for `sample`.

        Returns:
            ids int64 [N] and probabilities float64 [N], which add up to 1: most probable first, ids ascending among
            equals; without top-k and top-p, those behind the front by ascending id. Under temperature 0 one token.
        """
        check_shape(logits, self._size)
        scores = self._scores(logits)
        if self.sampling.greedy:
            return np.array([self._pick_from_all(scores, 0)], np.int64), np.ones(1)
        everything = self._weigh_all(scores)
        for ranking in self._rankings(scores, everything):
            _, kept = self._cut(ranking)
            if kept is not None:
                probable = weights(ranking.scores[:kept], ranking.scores[0], self.sampling.temperature)
                return ranking.ids[:kept], probable / probable.sum()
        others = everything.copy()
        others[ranking.ids] = 0
        ids = np.concatenate([ranking.ids[everything[ranking.ids] > 0], np.flatnonzero(others)])
        return ids, everything[ids] / everything[ids].sum()

    @property
    def _cuts_nothing(self) -> bool:
        return not self._limit and self.sampling.top_p == 1

    def _pick_from_top(self, top: Top, logits: NDArray[np.float32], number: float) -> int | None:
        """The token that all logits would give; None where only they can tell."""
        wanted = self.top_k  # a step that others take part in may bring more
        if not wanted:
            return None
        if 0 < self._limit <= _MAX_SCALAR_TOKENS and not len(self._penalties):
            return self._pick_of_few(top.ids, above_floor(top.first(wanted), self._size), number)
        weighed = None if self._limit else self.sampling.temperature
        ranking = rank_top(top.first(wanted), logits, self._penalties, self._size, weighed)
        if ranking is not None and self._cuts_nothing:
            ranking = ranking.first(FRONT_TOKENS)
        return None if ranking is None else self._pick(ranking, number)

    def _pick_from_all(self, scores: NDArray[np.float32], number: float) -> int:
        if self.sampling.greedy:
            best = int(np.argmax(scores))
            check_largest(scores[best])
            return best
        everything = np.zeros(0) if self._limit else self._weigh_all(scores)
        for ranking in self._rankings(scores, everything):
            token = self._pick(ranking, number)
            if token is not None:
                return token
        return _pick_by_id(ranking.ids, everything, number)

    def _pick(self, ranking: Ranking, number: float) -> int | None:
        """The token at `number` of the kept weight; None where that may lie behind the ranking."""
        if 0 < self._limit <= len(ranking.scores) <= _MAX_SCALAR_TOKENS:
            return self._pick_of_few(ranking.ids, ranking.scores.tolist(), number)
        cumulative, kept = self._cut(ranking)
        if kept is not None:
            place = int(cumulative[:kept].searchsorted(number * cumulative[kept - 1], side="right"))
            return int(ranking.ids[min(place, kept - 1)])
        if not self._cuts_nothing or self.sampling.min_p > 0:
            return None
        low, high = np.searchsorted(cumulative, number * np.array(ranking.total), side="right")
        return int(ranking.ids[low]) if low == high < len(cumulative) else None

    def _pick_of_few(self, ids: NDArray[Any], scores: list[float], number: float) -> int | None:
        """`_pick` under top-k, in Python's own numbers: between steps numpy's code is out of the caches, and slower."""
        if len(scores) < self._limit:
            return None
        sampling = self.sampling
        peak, last = scores[0], scores[self._limit - 1]
        temperature = max(sampling.temperature, SMALLEST_TEMPERATURE)
        own = [math.exp((score - peak) / temperature) for score in scores if score >= last]
        cumulative = list(accumulate(own))
        kept = sum(weight >= self._smallest_weight for weight in own)
        if sampling.top_p < 1:
            nucleus = sampling.top_p * cumulative[-1]
            kept = min(kept, sum(c - weight < nucleus for c, weight in zip(cumulative, own, strict=True)))
        place = bisect_right(cumulative, number * cumulative[kept - 1], 0, kept)
        return int(ids[min(place, kept - 1)])

    def _cut(self, ranking: Ranking) -> tuple[NDArray[np.float64], int | None]:
        """Sums of the weights so far, and how many tokens are kept; None where that may be more than are ranked."""
        sampling, scores, closed = self.sampling, ranking.scores, ranking.complete
        if len(scores) >= self._limit > 0:
            scores, closed = scores[: np.count_nonzero(scores >= scores[self._limit - 1])], True
        elif self._limit and not closed:
            return np.zeros(0), None
        own = weights(scores, scores[0], sampling.temperature)
        cumulative = own.cumsum()
        fewest = most = int(np.count_nonzero(own >= self._smallest_weight))
        if sampling.top_p < 1:
            heavier = cumulative - own
            totals = (cumulative[-1],) if self._limit else ranking.total
            counts = [int(np.count_nonzero(heavier < sampling.top_p * total)) for total in totals]
            fewest, most = min(most, counts[0]), min(most, counts[-1])
        return cumulative, most if fewest == most and (closed or most < len(own)) else None

    def _rankings(self, scores: NDArray[np.float32], everything: NDArray[np.float64]) -> Iterator[Ranking]:
        """Longer and longer rankings, the last of which is enough for any cut."""
        sizes: tuple[int, ...] = (FRONT_TOKENS,)
        if self._limit:
            sizes = (self._limit,)
        elif self.sampling.top_p < 1:
            sizes = (*_NUCLEUS_TOKENS, len(scores))
        total = float(everything.sum())
        return (rank_row(scores, size, total) for size in sizes)

    def _weigh_all(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """The weight of each token; where min-p is the only cut, none for those that it drops."""
        peak = scores.max()
        check_largest(peak)
        everything = weights(scores, peak, self.sampling.temperature)
        if self._cuts_nothing and self.sampling.min_p > 0:
            everything[everything < self.sampling.min_p] = 0
        return everything

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of the tokenizer vocabulary after all penalties; a view of `logits` where there are none."""
        scores = logits[: self._size]
        if len(self._penalties):
            scores = scores.copy()
            scores[self._penalties.ids] = self._penalties.scores(logits)
        return scores


def _pick_by_id(front: NDArray[np.int64], everything: NDArray[np.float64], number: float) -> int:
    """The token at `number` of all weight, those in `front` coming first, the others by ascending id."""
    threshold = number * everything.sum()
    cumulative = np.cumsum(everything[front])
    others = everything.copy()
    others[front] = 0
    sums = np.add.reduceat(others, np.arange(0, len(others), _BLOCK_TOKENS))
    if threshold < cumulative[-1] or not sums.any():
        place = int(np.searchsorted(cumulative, threshold, side="right"))
        return int(front[min(place, np.flatnonzero(everything[front])[-1])])
    ends = cumulative[-1] + np.cumsum(sums)
    block = min(int(np.searchsorted(ends, threshold, side="right")), int(np.flatnonzero(sums)[-1]))
    inside = others[block * _BLOCK_TOKENS : (block + 1) * _BLOCK_TOKENS]
    place = int(np.searchsorted(ends[block] - sums[block] + np.cumsum(inside), threshold, side="right"))
    return block * _BLOCK_TOKENS + min(place, int(np.flatnonzero(inside)[-1]))
