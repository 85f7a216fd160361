"""Book-keeping of the paged KV cache: which blocks belong to which sequence."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.step import CacheGeometry


class BlockPool:
    """The free blocks of a cache.

    The lowest free numbers are given out first, so that the blocks in use stay close together: a backend can then
    bind neighboring blocks as one contiguous batch.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks))  # a heap; ascending order is one

    @property
    def available(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def take(self) -> int:
        """Hand out the lowest free block. The caller has checked `available`."""
        return heapq.heappop(self._free)

    def give_back(self, block: int) -> None:
        """Return a block that `take` handed out."""
        heapq.heappush(self._free, block)


class BlockTable:
    """The blocks of one sequence, in order.

    Attributes:
        row: int32 [M], M the maximum number of blocks of a sequence; entries beyond `count` are -1.
        count: blocks held.
    """

    def __init__(self, pool: BlockPool, geometry: CacheGeometry, max_context: int) -> None:
        self._pool = pool
        self._block_size = geometry.block_size
        self.row: NDArray[np.int32] = np.full(blocks_for(max_context, geometry.block_size), -1, np.int32)
        self.count = 0

    def reserve(self, tokens: int) -> bool:
        """Hold enough blocks for `tokens` tokens; takes all that are missing, or none and answers False."""
        missing = blocks_for(tokens, self._block_size) - self.count
        if missing > self._pool.available or self.count + missing > len(self.row):
            return False
        for _ in range(missing):
            self.row[self.count] = self._pool.take()
            self.count += 1
        return True

    def release(self) -> None:
        """Return every block to the pool."""
        for block in self.row[: self.count]:
            self._pool.give_back(int(block))
        self.row[: self.count] = -1
        self.count = 0


def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold `tokens` tokens."""
    return -(-tokens // block_size)
