"""One sequence in flight: its tokens, how many of them the cache holds, and who takes its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from qwen3_runtime.cache import BlockTable
    from qwen3_runtime.step import Output

Interruption = Literal["deadline", "context", "cancelled"]


class Consumer(Protocol):
    """Turns a sequence's outputs into its next tokens."""

    @property
    def top_k(self) -> int:
        """How many of the largest logits `take` wants beside all of them."""

    def take(self, output: Output, now: float) -> tuple[int, ...]:
        """Use the model's output after the sequence's last token.

        Args:
            output: of that row; valid during the call only.
            now: seconds, on the scheduler's clock.

        Returns:
            The tokens to feed next, or none when the sequence is finished.

        Raises:
            EngineError: the output cannot be used; `fail` is called with it and the sequence is over.
        """

    def interrupt(self, reason: Interruption, now: float) -> None:
        """The scheduler ended the sequence; nothing more will come."""

    def fail(self, error: Exception) -> None:
        """The backend, or `take`, failed; nothing more will come."""

    def started(self, now: float, cached: int) -> None:
        """The sequence left the queue: its first tokens are about to run.

        Args:
            now: seconds, on the scheduler's clock.
            cached: tokens at its beginning that need not be computed.
        """


class TokenSequence:
    """Tokens on their way through the model.

    Args:
        tokens: what to run, at least one token.
        consumer: takes the outputs.
        deadline: seconds on the scheduler's clock, or None.
        salt: sequences of one salt share what was computed for the same beginning.

    Attributes:
        tokens: prompt and everything that followed.
        cached: tokens at the front whose keys and values are in the cache.
        cancelled: set from any thread; honored before the next step.
        table: the cache blocks, while the sequence runs.
        keys: of its full blocks, for the prefix cache.
        named: how many of its blocks the pool can find.
        lost: tokens that were computed when it was preempted.
    """

    __slots__ = ("cached", "cancelled", "consumer", "deadline", "keys", "lost", "named", "salt", "table", "tokens")

    def __init__(self, tokens: list[int], consumer: Consumer, deadline: float | None = None, salt: bytes = b"") -> None:
        self.tokens = list(tokens)
        self.consumer = consumer
        self.deadline = deadline
        self.salt = salt
        self.cached = 0
        self.cancelled = False
        self.table: BlockTable | None = None
        self.keys: list[bytes] = []
        self.named = 0
        self.lost = 0

    @property
    def pending(self) -> int:
        """Tokens that the cache does not hold yet; at least one, for the last token is never fed ahead."""
        return len(self.tokens) - self.cached
