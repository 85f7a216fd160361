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

    def started(self, now: float) -> None:
        """The sequence left the queue: its first tokens are about to run."""


class TokenSequence:
    """Tokens on their way through the model.

    Attributes:
        tokens: prompt and everything that followed.
        cached: tokens at the front whose keys and values are in the cache.
        deadline: seconds on the scheduler's clock, or None.
        cancelled: set from any thread; honored before the next step.
        table: the cache blocks, while the sequence runs.
    """

    __slots__ = ("cached", "cancelled", "consumer", "deadline", "table", "tokens")

    def __init__(self, tokens: list[int], consumer: Consumer, deadline: float | None = None) -> None:
        self.tokens = list(tokens)
        self.consumer = consumer
        self.deadline = deadline
        self.cached = 0
        self.cancelled = False
        self.table: BlockTable | None = None

    @property
    def pending(self) -> int:
        """Tokens that the cache does not hold yet; at least one, for the last token is never fed ahead."""
        return len(self.tokens) - self.cached
