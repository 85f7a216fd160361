"""Book-keeping of the paged KV cache: which blocks belong to which sequences, and what the others still hold."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.step import CacheGeometry


class BlockPool:
    """The blocks of a cache: held by sequences, free, or kept for what they hold.

    A block whose content has a key can be found by it and held by several sequences, which only read it. When the last
    of them gives it back it is kept, and lost when the pool needs it: the least recently used first.

    Of the free blocks the lowest numbers are given out first, so that the blocks in use stay close together: a backend
    can then bind neighboring blocks as one contiguous batch.

    Attributes:
        num_blocks: blocks of the cache.
        evictions: kept blocks that were lost so far.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.evictions = 0
        self._free = list(range(num_blocks))  # a heap; ascending order is one
        self._kept: dict[int, None] = {}  # least recently used first
        self._holders = [0] * num_blocks
        self._keys: dict[int, bytes] = {}
        self._blocks: dict[bytes, int] = {}

    @property
    def available(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free) + len(self._kept)

    @property
    def kept(self) -> int:
        """Those of them whose content can be found."""
        return len(self._kept)

    def take(self) -> int:
        """Hand out the lowest free block, or the one that was kept longest. The caller has checked `available`."""
        if self._free:
            block = heapq.heappop(self._free)
        else:
            block = next(iter(self._kept))
            del self._kept[block]
            del self._blocks[self._keys.pop(block)]
            self.evictions += 1
        self._holders[block] = 1
        return block

    def find(self, key: bytes) -> int | None:
        """The block with the content of a key, held or kept; None where there is none."""
        return self._blocks.get(key)

    def is_kept(self, block: int) -> bool:
        """Whether nobody holds a block that was found: to hold it makes `available` one less."""
        return block in self._kept

    def hold(self, block: int) -> None:
        """Hold a block that was found."""
        self._kept.pop(block, None)
        self._holders[block] += 1

    def name(self, block: int, key: bytes) -> None:
        """Say what a held block holds from now on. Of several blocks with one content the first is found."""
        if key not in self._blocks:
            self._keys[block] = key
            self._blocks[key] = block

    def give_back(self, block: int) -> None:
        """Return a block that `take` handed out, or that was held."""
        self._holders[block] -= 1
        if self._holders[block]:
            return
        if block in self._keys:
            self._kept[block] = None
        else:
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
            self._append(self._pool.take())
        return True

    def share(self, block: int) -> None:
        """Hold a block that the pool found, as the next one."""
        self._pool.hold(block)
        self._append(block)

    def release(self) -> None:
        """Return every block to the pool; the last ones first, so that the beginning of a sequence is kept longest."""
        for block in self.row[: self.count][::-1]:
            self._pool.give_back(int(block))
        self.row[: self.count] = -1
        self.count = 0

    def _append(self, block: int) -> None:
        self.row[self.count] = block
        self.count += 1


def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold `tokens` tokens."""
    return -(-tokens // block_size)
