"""Sampling as it is defined, in float64 and without any shortcut: what the fast sampler is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime.sampling.ranking import FRONT_TOKENS, check_largest, check_shape, weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from qwen3_runtime.sampling.parameters import Sampling
    from qwen3_runtime.step import Top


class ReferenceSampler:
    """Chooses the tokens of one sequence; it sorts the whole vocabulary for each of them.

    `Sampler` computes penalties in float32 and sums weights in another order. Where two tokens differ by less than that
    rounds to, the two samplers may choose differently.

    Args:
        sampling: what to do.
        tokenizer_vocab_size: ids that the tokenizer has; logits from here on are ignored.
        prompt_ids: the prompt, which only the repetition penalty looks at.
    """

    top_k = 0
    """The largest logits are not wanted apart."""

    def __init__(self, sampling: Sampling, tokenizer_vocab_size: int, prompt_ids: Iterable[int] = ()) -> None:
        self.sampling = sampling
        self._size = tokenizer_vocab_size
        self._counts = np.zeros(tokenizer_vocab_size)
        self._seen = np.zeros(tokenizer_vocab_size, bool)
        self._seen[[token_id for token_id in prompt_ids if 0 <= token_id < tokenizer_vocab_size]] = True
        self._forbidden: set[int] = set()
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))

    def sample(self, logits: NDArray[np.float32], top: Top | None = None) -> int:  # noqa: ARG002 - the protocol's
        """The next token; arguments and errors as for `Sampler.sample`."""
        number = 0.0 if self.sampling.greedy else self._random.random()
        ids, probabilities = self.distribution(logits)
        place = int(np.searchsorted(np.cumsum(probabilities), number, side="right"))
        return int(ids[min(place, len(ids) - 1)])

    def accept(self, token_id: int) -> None:
        """Count a token that now belongs to the sequence, for the penalties."""
        if 0 <= token_id < self._size:
            self._counts[token_id] += 1
            self._seen[token_id] = True

    def forbid(self, token_id: int) -> None:
        """Never choose a token from now on."""
        if 0 <= token_id < self._size:
            self._forbidden.add(token_id)

    def distribution(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The tokens that can be chosen and their probabilities, as `Sampler.distribution` gives them."""
        check_shape(logits, self._size)
        own, scores = self.sampling, logits[: self._size].astype(np.float64)
        factor = np.where(scores < 0, own.repetition_penalty, 1 / own.repetition_penalty)
        scores = np.where(self._seen, scores * factor, scores)
        scores -= np.where(self._counts > 0, own.presence_penalty + own.frequency_penalty * self._counts, 0)
        scores[list(self._forbidden)] = -np.inf
        check_largest(scores.max())

        ids = np.argsort(-scores, kind="stable")
        if own.greedy:
            return ids[:1], np.ones(1)
        scores = scores[ids]
        mass = weights(scores, scores[0], own.temperature)
        if own.top_k:
            mass[scores < scores[: own.top_k][-1]] = 0
        if own.top_p < 1:
            mass[mass.cumsum() - mass >= own.top_p * mass.sum()] = 0
        mass[mass < own.min_p] = 0

        kept = np.flatnonzero(mass)
        if not 0 < own.top_k < self._size and own.top_p == 1:
            behind = kept[FRONT_TOKENS:]
            kept = np.concatenate([kept[:FRONT_TOKENS], behind[np.argsort(ids[behind])]])
        return ids[kept], mass[kept] / mass[kept].sum()
