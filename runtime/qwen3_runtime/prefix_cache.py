"""Prefix caching: full blocks are found by the tokens that they and all before them hold, and are read by many.

The key of a block is SHA-256 over the key of the block before it and its own tokens; that of the first is over the
sequence's salt. So a key stands for everything that the keys and values of its block depend on, and nobody finds what
was computed under another salt.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen3_runtime.cache import BlockPool
    from qwen3_runtime.sequence import TokenSequence


class PrefixCache:
    """Finds what was computed before, and what is being computed now, for the beginnings of sequences.

    Args:
        pool: the blocks.
        block_size: tokens of a block.
        enabled: whether anything is ever found.
    """

    def __init__(self, pool: BlockPool, block_size: int, *, enabled: bool = True) -> None:
        self._pool = pool
        self._size = block_size
        self._enabled = enabled
        self._computing: dict[bytes, TokenSequence] = {}

    def find(self, sequence: TokenSequence) -> list[int]:
        """The blocks that hold the beginning of a sequence: all full blocks in a row, up to but without its last token.

        The last token is always computed: its output is wanted.
        """
        blocks = []
        for key in self._keys(sequence, len(sequence.tokens) - 1):
            block = self._pool.find(key)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def is_coming(self, sequence: TokenSequence, found: int) -> bool:
        """Whether another sequence is computing the block that comes after the `found` first ones."""
        keys = self._keys(sequence, len(sequence.tokens) - 1)
        return found < len(keys) and keys[found] in self._computing

    def enter(self, sequence: TokenSequence) -> None:
        """A sequence was admitted: it computes the full blocks of its tokens beyond `sequence.cached`."""
        first = sequence.cached // self._size
        sequence.named = first
        for key in self._keys(sequence, len(sequence.tokens))[first:]:
            self._computing.setdefault(key, sequence)

    def advance(self, sequence: TokenSequence) -> None:
        """A step has written up to `sequence.cached`: blocks that became full can be found from now on."""
        full = sequence.cached // self._size
        if full == sequence.named or sequence.table is None:
            return
        for index, key in enumerate(self._keys(sequence, sequence.cached)[sequence.named :], start=sequence.named):
            self._pool.name(int(sequence.table.row[index]), key)
            self._forget(key, sequence)
        sequence.named = full

    def leave(self, sequence: TokenSequence) -> None:
        """A sequence gives its blocks back: what it has not computed, it does not compute."""
        for key in sequence.keys[sequence.named :]:
            self._forget(key, sequence)
        sequence.named = 0

    def _forget(self, key: bytes, sequence: TokenSequence) -> None:
        if self._computing.get(key) is sequence:
            del self._computing[key]

    def _keys(self, sequence: TokenSequence, tokens: int) -> list[bytes]:
        """The keys of the full blocks among the first `tokens` tokens."""
        if not self._enabled:
            return []
        keys, full = sequence.keys, tokens // self._size
        while len(keys) < full:
            begin = len(keys) * self._size
            before = keys[-1] if keys else hashlib.sha256(sequence.salt).digest()
            own = array("q", sequence.tokens[begin : begin + self._size]).tobytes()
            keys.append(hashlib.sha256(before + own).digest())
        return keys[:full]
