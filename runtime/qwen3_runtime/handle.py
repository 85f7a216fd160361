"""A request in flight, as its caller holds it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from qwen3_runtime.arguments import shown
from qwen3_runtime.completion import Finished

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_runtime.completion import Completion, Event
    from qwen3_runtime.driver import Driver
    from qwen3_runtime.sequence import TokenSequence


class Handle:
    """Events of one request, to iterate, wait for or cancel. One thread may consume it; any may cancel it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._events: deque[Event] = deque()
        self._error: Exception | None = None
        self._completion: Completion | None = None
        self._sequence: TokenSequence | None = None

    def __repr__(self) -> str:
        if self._completion is not None:
            state = f"ended by {self._completion.finish_reason}"
        else:
            state = "in flight" if self._error is None else f"failed: {shown(str(self._error))}"
        return f"<Handle {state}, {len(self._events)} events to read>"

    def bind(self, sequence: TokenSequence) -> None:
        """Name the sequence that `cancel` ends."""
        self._sequence = sequence

    def put(self, event: Event) -> None:
        """Receive an event."""
        self._events.append(event)

    def put_error(self, error: Exception) -> None:
        """Receive the error that ended the request."""
        self._error = error

    def cancel(self) -> None:
        """End the request before the next step; it finishes as `cancelled` with what it has. Safe at any time."""
        if self._sequence is not None:
            self._sequence.cancelled = True

    def __iter__(self) -> Iterator[Event]:
        """Yield the events that were not consumed yet; the last is `Finished`.

        Raises:
            StepFailedError: the backend failed.
            EngineClosedError: the engine was closed before the request ran.
        """
        while self._completion is None:
            event = cast("Event", self._driver.wait(self._poll))  # mypy widens a union to object here
            if isinstance(event, Finished):
                self._completion = event.completion
            yield event

    def result(self) -> Completion:
        """Wait for the end; events that were not consumed are dropped.

        Raises:
            StepFailedError: the backend failed.
            EngineClosedError: the engine was closed before the request ran.
        """
        while self._completion is None:
            for _ in self:
                pass
        return self._completion

    def _poll(self) -> Event | None:
        if self._events:
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return None
