"""One step of an engine: any mix of prefill chunks and decode tokens, packed without padding.

This is the line between book-keeping and arithmetic. Everything above it (scheduler, decode loop, budgets)
speaks in steps; a backend below it may pad, copy or page as its kernels like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Step:
    """The inputs of one step over B sequences with T new tokens in all.

    Attributes:
        input_ids: int64 [T], the new tokens of all sequences, concatenated.
        query_start: int32 [B+1], where each sequence's new tokens begin in `input_ids`; the last is T.
        context_len: int32 [B], tokens of each sequence that are already in the cache.
        block_table: int32 [B, M], the cache blocks of each sequence, in order; unused entries are -1.
        logits_rows: int32 [R], rows of `input_ids` whose logits are wanted (usually the last of a sequence).
        top_k: how many of the largest logits of each row are wanted beside all of them; 0 for none.
    """

    input_ids: NDArray[np.int64]
    query_start: NDArray[np.int32]
    context_len: NDArray[np.int32]
    block_table: NDArray[np.int32]
    logits_rows: NDArray[np.int32]
    top_k: int = 0


@dataclass(frozen=True)
class Top:
    """The largest logits of the tokenizer vocabulary in R rows; of a single row, the same without the first axis.

    Attributes:
        values: float32 [R, k], largest first.
        ids: int32 [R, k], their tokens; ascending among equal values.
        log_sum_exp: float32 [R], over the tokenizer vocabulary; NaN or infinite where a logit is NaN or +inf.
    """

    values: NDArray[np.float32]
    ids: NDArray[np.int32]
    log_sum_exp: NDArray[np.float32]

    def first(self, count: int) -> Top:
        """The `count` largest of them, or all where there are fewer."""
        return Top(self.values[..., :count], self.ids[..., :count], self.log_sum_exp)


@dataclass(frozen=True)
class Output:
    """What a step gives for its R rows; `output[i]` is that of a single row, without the first axis.

    The arrays are the backend's: its next step may overwrite them.

    Attributes:
        values: float32 [R, vocab_size], the logits; of an embedding model [R, hidden_size].
        top: the largest of them, where the step asked for them and the backend finds them. It says nothing that
            `values` does not, but to look at 20 logits costs less than to look at all.
    """

    values: NDArray[np.float32]
    top: Top | None = None

    def __getitem__(self, row: int) -> Output:
        top = self.top
        return Output(self.values[row], top and Top(top.values[row], top.ids[row], top.log_sum_exp[row]))


@dataclass(frozen=True)
class CacheGeometry:
    """The paged KV cache that a backend offers.

    Attributes:
        num_blocks: blocks in the pool.
        block_size: tokens a block holds. A backend that needs a contiguous cache offers blocks as long as
            the longest sequence, one for each sequence.
        bytes_per_token: bytes of keys and values over all layers.
    """

    num_blocks: int
    block_size: int
    bytes_per_token: int


class Backend(Protocol):
    """Executes steps. Nothing above it knows which provider, padding or cache layout is used."""

    @property
    def cache(self) -> CacheGeometry:
        """The cache that block tables refer to."""

    def run(self, step: Step) -> Output:
        """Run one step: writes its keys and values to the cache, returns what it gives for its `logits_rows`."""

    def stored_keys(self, layer: int, block: int, slot: int) -> NDArray[np.float32] | None:
        """What the cache holds as the keys of one token, float32 [kv_heads, head_dim]; for validation.

        Args:
            layer: of the model, from 0.
            block: of the cache.
            slot: place of the token in the block.

        Returns:
            A copy; None where the cache is on a device.
        """

    def close(self) -> None:
        """Free the session and the cache. The backend must not be used afterwards."""
