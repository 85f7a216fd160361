"""One pass over a prompt for the output at its last token: what embeddings and rerankers need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_runtime.errors import EngineClosedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qwen3_runtime.sequence import Interruption
    from qwen3_runtime.step import Output


class LastRow:
    """Keeps the output at the last token of one sequence; the scheduler's `Consumer`."""

    top_k = 0

    def __init__(self) -> None:
        self._row: NDArray[np.float32] | None = None
        self._error: Exception | None = None

    def started(self, now: float, cached: int) -> None:
        """Nothing is measured."""

    def take(self, output: Output, now: float) -> tuple[int, ...]:  # noqa: ARG002 - the protocol's
        """Keep the output float32 [hidden_size] or [vocab_size] of the last token."""
        self._row = output.values.copy()
        return ()

    def interrupt(self, reason: Interruption, now: float) -> None:  # noqa: ARG002 - the protocol's
        """Only closing the engine interrupts it."""
        self._error = EngineClosedError(f"the request was interrupted ({reason})")

    def fail(self, error: Exception) -> None:
        """Keep the backend's error for whoever waits."""
        self._error = error

    def poll(self) -> NDArray[np.float32] | None:
        """The row, or None while it is not there.

        Raises:
            EngineError: it will never be there.
        """
        if self._error is not None:
            raise self._error
        return self._row
