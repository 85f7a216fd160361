"""Ctrl-C and SIGTERM end a build, even where Python drops the exception that their handler raises.

It does so in the callbacks of weak references and in `__del__`, which run between any two lines of a library: without a
note the build would go on and publish an engine. So the handler also notes the signal, and a build asks for it before
each of its stages and before it publishes.
"""

from __future__ import annotations

import signal
from typing import NoReturn

_received: list[int] = []


def stop_on_signals() -> None:
    """Have SIGTERM leave through the exits that clean up, as Ctrl-C does, and note both. An ignored Ctrl-C stays so."""
    _received.clear()
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def check_stopped() -> None:
    """Raise what a signal's handler raised, if that was lost.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after SIGTERM, with code 143.
    """
    if _received:
        _leave(_received[0])


def forget_signals() -> None:
    """What was received has had its effect; Ctrl-C is Python's own again."""
    _received.clear()
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(number: int, frame: object) -> NoReturn:  # noqa: ARG001 - signal's signature
    _received.append(number)
    _leave(number)


def _leave(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
