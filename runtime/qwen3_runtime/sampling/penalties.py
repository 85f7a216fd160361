"""Which tokens' logits a sequence changes before it samples, and to what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from qwen3_runtime.sampling.parameters import Sampling


class Penalties:
    """What the tokens of one sequence so far do to the next ones. `count` and `forbid` take constant time.

    Args:
        sampling: the penalties.
        tokenizer_vocab_size: ids from here on are not counted, as they are never sampled.
    """

    def __init__(self, sampling: Sampling, tokenizer_vocab_size: int) -> None:
        self._presence, self._frequency = sampling.presence_penalty, sampling.frequency_penalty
        self._repetition = np.float32(sampling.repetition_penalty)
        self._size = tokenizer_vocab_size
        self._slot: dict[int, int] = {}
        self._ids = np.zeros(64, np.int64)
        self._counts = np.zeros(64, np.float32)
        self._forbidden: set[int] = set()

    def __len__(self) -> int:
        """How many tokens have a logit that may be changed."""
        return len(self._slot)

    def __contains__(self, token_id: int) -> bool:
        return token_id in self._slot

    @property
    def ids(self) -> NDArray[np.int64]:
        """Those tokens, each once: int64 [len(self)]."""
        return self._ids[: len(self._slot)]

    def see(self, prompt_ids: Iterable[int]) -> None:
        """Note the tokens of the prompt, which only the repetition penalty looks at."""
        if self._repetition != 1:
            for token_id in prompt_ids:
                self._take_slot(token_id)

    def count(self, token_id: int) -> None:
        """Count a token that was generated."""
        if self._repetition != 1 or self._presence or self._frequency:
            slot = self._take_slot(token_id)
            if slot is not None:
                self._counts[slot] += 1

    def forbid(self, token_id: int) -> None:
        """Never sample a token from now on."""
        slot = self._take_slot(token_id)
        if slot is not None:
            self._forbidden.add(slot)

    @np.errstate(over="ignore")  # an overflow is found where the largest score is looked at
    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the logits float32 [V] of the tokens `ids` become: float32 [len(self)], -inf where forbidden."""
        scores: NDArray[np.float32] = logits[self.ids]
        if self._repetition != 1:
            scores = np.where(scores < 0, scores * self._repetition, scores / self._repetition)
        if self._presence or self._frequency:
            counts = self._counts[: len(self)]
            scores -= np.where(counts > 0, self._presence + self._frequency * counts, np.float32(0))
        scores[list(self._forbidden)] = -np.inf
        return scores

    def _take_slot(self, token_id: int) -> int | None:
        if not 0 <= token_id < self._size:
            return None
        slot = self._slot.setdefault(token_id, len(self._slot))
        if slot == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[slot] = token_id
        return slot
