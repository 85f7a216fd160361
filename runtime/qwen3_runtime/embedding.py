"""Embedding a text: one pass, the output at the last token, L2 norm 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.sequence import Interruption


class Pooling:
    """Keeps the normalised output of one sequence; the scheduler's `Consumer`."""

    def __init__(self) -> None:
        self._row: NDArray[np.float32] | None = None
        self._error: Exception | None = None

    def started(self, now: float) -> None:
        """Nothing is measured."""

    def take(self, row: NDArray[np.float32], now: float) -> tuple[int, ...]:  # noqa: ARG002 - the protocol's
        """Keep hidden states float32 [hidden_size] of the last token."""
        length = float(np.linalg.norm(row.astype(np.float64)))
        self._row = (row / (length or 1.0)).astype(np.float32)
        return ()

    def interrupt(self, reason: Interruption, now: float) -> None:  # noqa: ARG002 - the protocol's
        """Only closing the engine interrupts an embedding."""
        self._error = EngineError(f"the embedding was interrupted ({reason})")

    def fail(self, error: Exception) -> None:
        """Keep the backend's error for whoever waits."""
        self._error = error

    def poll(self) -> NDArray[np.float32] | None:
        """The row float32 [hidden_size], or None while it is not there.

        Raises:
            EngineError: it will never be there.
        """
        if self._error is not None:
            raise self._error
        return self._row
