"""Continuous batching: each step mixes the decode tokens of running sequences with chunks of new prompts."""

from __future__ import annotations

import time
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime.cache import BlockPool, BlockTable, blocks_for
from qwen3_runtime.errors import EngineError, PromptTooLongError, RequestError
from qwen3_runtime.prefix_cache import PrefixCache
from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qwen3_runtime.sequence import Interruption, TokenSequence
    from qwen3_runtime.step import Backend


class Scheduler:
    """Drives sequences through a backend. Not thread-safe: one thread at a time may call it.

    A sequence is admitted when the batch has a free slot and the cache has blocks for all its tokens and one more. What
    the cache still holds of its beginning is not computed again; where another sequence is just computing the next
    block of it, the sequence waits for that and lets others pass.

    When a running sequence finds no block to grow into, the sequence admitted last gives its blocks back and waits at
    the head of the queue. What was computed of it stays in the cache until others need the blocks.

    Args:
        backend: executes the steps.
        max_batch: maximum number of sequences in a step.
        max_step_tokens: maximum number of new tokens in a step; longer prompts are fed in chunks.
        max_context: maximum number of tokens of a sequence.
        prefix_cache: whether sequences share what was computed for the same beginning.
        clock: seconds; deadlines are on it.

    Attributes:
        recomputed: tokens that were computed again because their blocks were lost to others after a preemption.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        max_batch: int,
        max_step_tokens: int,
        max_context: int,
        prefix_cache: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._backend = backend
        self._max_batch = min(max_batch, max_step_tokens)  # so that every running sequence advances in every step
        self._max_step_tokens = max_step_tokens
        self._max_context = min(max_context, backend.cache.num_blocks * backend.cache.block_size)
        self._clock = clock
        self.pool = BlockPool(backend.cache.num_blocks)
        self.recomputed = 0
        self._prefixes = PrefixCache(self.pool, backend.cache.block_size, enabled=prefix_cache)
        self.waiting: deque[TokenSequence] = deque()
        self.running: list[TokenSequence] = []  # in order of admission

    @property
    def max_context(self) -> int:
        """Tokens a sequence may hold: the engine's limit, or all of the cache where that is less."""
        return self._max_context

    @property
    def in_flight(self) -> int:
        """Sequences that are running or waiting."""
        return len(self.running) + len(self.waiting)

    def add(self, sequence: TokenSequence) -> None:
        """Queue a sequence.

        Raises:
            RequestError: its prompt is empty or can never fit.
        """
        check_prompt(len(sequence.tokens), self._max_context, output=0)
        self.waiting.append(sequence)

    def step(self) -> None:
        """Run one step and hand every output to its consumer. Does nothing when no sequence is left.

        A consumer that finds its output unusable (a `EngineError`) ends its own sequence and no other.

        Raises:
            Exception: whatever else the backend or a consumer raised. What the sequences stand at is then unknown:
                the caller ends them with `fail_all`.
        """
        self._interrupt_overdue()
        self._admit()
        batch = self._choose_batch()
        if not batch:
            return
        step, finishing = _pack(batch)
        output = self._backend.run(step)
        now = self._clock()
        for sequence, count in batch:
            sequence.cached += count
            self._prefixes.advance(sequence)
        for row, sequence in enumerate(finishing):
            try:
                following = sequence.consumer.take(output[row], now)
            except EngineError as error:
                self._leave(sequence)
                sequence.consumer.fail(error)
                continue
            if following:
                sequence.tokens.extend(following)
            else:
                self._leave(sequence)

    def interrupt_all(self, reason: Interruption) -> None:
        """End every sequence, running or waiting."""
        now = self._clock()
        for sequence in self._dismiss_all():
            sequence.consumer.interrupt(reason, now)

    def fail_all(self, error: Exception) -> None:
        """End every sequence, running or waiting, with an error."""
        for sequence in self._dismiss_all():
            sequence.consumer.fail(error)

    def _dismiss_all(self) -> list[TokenSequence]:
        dismissed = [*self.running, *self.waiting]
        self.running.clear()
        self.waiting.clear()
        for sequence in dismissed:
            self._release(sequence)
        return dismissed

    def _leave(self, sequence: TokenSequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)

    def _release(self, sequence: TokenSequence) -> None:
        if sequence.table is not None:
            self._prefixes.leave(sequence)
            sequence.table.release()
            sequence.table = None
        sequence.cached = 0

    def _interrupt_overdue(self) -> None:
        now = self._clock()
        for sequence in (*self.running, *self.waiting):
            overdue = sequence.deadline is not None and now >= sequence.deadline
            if not (sequence.cancelled or overdue):
                continue
            if sequence.table is not None:
                self._leave(sequence)
            else:
                self.waiting.remove(sequence)
            sequence.consumer.interrupt("cancelled" if sequence.cancelled else "deadline", now)

    def _admit(self) -> None:
        if not self.waiting or len(self.running) >= self._max_batch:
            return
        for sequence in [*self.waiting]:
            found = self._prefixes.find(sequence)
            if self._prefixes.is_coming(sequence, len(found)):
                continue
            if not self._hold_blocks(sequence, found):
                return  # first come, first served: nobody overtakes the one that needs much
            self.waiting.remove(sequence)
            self.running.append(sequence)
            self.recomputed += max(0, sequence.lost - sequence.cached)
            sequence.lost = 0
            sequence.consumer.started(self._clock(), sequence.cached)
            if len(self.running) == self._max_batch:
                return

    def _hold_blocks(self, sequence: TokenSequence, found: list[int]) -> bool:
        """Give a sequence the blocks that were found and new ones for the rest, if there are enough."""
        geometry = self._backend.cache
        wanted = min(len(sequence.tokens) + 1, self._max_context)
        missing = blocks_for(wanted, geometry.block_size) - len(found)
        if missing > self.pool.available - sum(map(self.pool.is_kept, found)):
            return False
        sequence.table = BlockTable(self.pool, geometry, self._max_context)
        for block in found:
            sequence.table.share(block)
        sequence.table.reserve(wanted)
        sequence.cached = len(found) * geometry.block_size
        self._prefixes.enter(sequence)
        return True

    def _choose_batch(self) -> list[tuple[TokenSequence, int]]:
        """Choose the new tokens of each running sequence: single tokens first, the rest is shared by the prompts."""
        for sequence in list(self.running):
            if sequence.table is not None:  # not preempted by an earlier turn of this loop
                self._make_room(sequence)
        single = [(sequence, 1) for sequence in self.running if sequence.pending == 1]
        prompts = [sequence for sequence in self.running if sequence.pending > 1]
        counts = share_fairly([prompt.pending for prompt in prompts], self._max_step_tokens - len(single))
        return [*single, *((prompt, count) for prompt, count in zip(prompts, counts, strict=True) if count)]

    def _make_room(self, sequence: TokenSequence) -> None:
        """Hold blocks for all tokens of a running sequence, preempting the youngest others where needed."""
        while sequence.table is not None and not sequence.table.reserve(len(sequence.tokens)):
            if len(self.running) == 1:
                self._leave(sequence)
                sequence.consumer.interrupt("context", self._clock())
                return
            youngest = self.running.pop()
            youngest.lost = youngest.cached
            self._release(youngest)
            self.waiting.appendleft(youngest)


def share_fairly(pending: Sequence[int], tokens: int) -> list[int]:
    """Share a step among prompts, in order of admission.

    Prompts that need no more than an equal share get all they need, so that a short one never waits for all of a long
    one. What remains goes to the long ones, first come, first served: each is done sooner than if all advanced at once,
    and the first always gets an equal share at least.

    Args:
        pending: tokens that each prompt still needs.
        tokens: that the step has room for.
    """
    equal = tokens // max(1, len(pending))
    counts = [each if each <= equal else 0 for each in pending]
    left = tokens - sum(counts)
    for index, each in enumerate(pending):
        if each > equal:
            counts[index] = min(each, left)
            left -= counts[index]
    return counts


def check_prompt(tokens: int, max_context: int, *, output: int, field: str = "prompt") -> None:
    """Refuse a prompt that is empty, or leaves no room for `output` new tokens.

    Args:
        tokens: of the prompt.
        max_context: tokens that a sequence may hold.
        output: new tokens that there has to be room for.
        field: the argument that errors name.

    Raises:
        RequestError: the prompt is empty.
        PromptTooLongError: it does not fit; with the numbers.
    """
    if tokens == 0:
        raise RequestError("the prompt is empty: at least one token is needed", field=field)
    if tokens + output > max_context:
        raise PromptTooLongError(
            f"the prompt has {tokens} tokens, but a sequence may hold {max_context}"
            f"{', output included' if output else ''}; shorten it, or open the engine with a larger max_context",
            field=field,
        )


def _pack(batch: list[tuple[TokenSequence, int]]) -> tuple[Step, list[TokenSequence]]:
    """Pack the chosen tokens into a step; returns it with the sequences whose last token it holds, in row order."""
    starts = [0, *accumulate(count for _, count in batch)]
    tables = [sequence.table for sequence, _ in batch if sequence.table is not None]
    width = max(table.count for table in tables)
    ids: list[int] = []
    finishing = []
    rows = []
    for index, (sequence, count) in enumerate(batch):
        ids.extend(sequence.tokens[sequence.cached : sequence.cached + count])
        if count == sequence.pending:
            finishing.append(sequence)
            rows.append(starts[index + 1] - 1)
    step = Step(
        input_ids=np.array(ids, np.int64),
        query_start=np.array(starts, np.int32),
        context_len=np.array([sequence.cached for sequence, _ in batch], np.int32),
        block_table=np.array([table.row[:width] for table in tables], np.int32),
        logits_rows=np.array(rows, np.int32),
        top_k=max((sequence.consumer.top_k for sequence in finishing), default=0),
    )
    return step, finishing
