"""Ctrl-C while a step runs: the step ends first, so that the requests of other threads go on."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Hold back a SIGINT until the block is left, and a second one not at all.

    Python delivers signals to the main thread: elsewhere, and where SIGINT has no handler in Python, nothing changes.

    Raises:
        KeyboardInterrupt: or whatever else the program's own handler raises.
    """
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):
        yield
        return
    received: list[Any] = []

    def note(number: int, frame: Any) -> None:  # noqa: ANN401 - as signal gives it
        if received:
            handler(number, frame)
        received.append(frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if len(received) == 1:
            handler(signal.SIGINT, received[0])
