"""The logger of TensorRT: there is one for each module, and it writes to whoever listens.

TensorRT keeps the first logger that a process gives it, for as long as anything of TensorRT lives, and ignores those
that come later. So whoever builds, parses or runs takes this one.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Called with the module's Severity and the text.
    Listener = Callable[[Any, str], None]


@contextlib.contextmanager
def listening(trt: Any, listener: Listener) -> Iterator[Any]:  # noqa: ANN401 - the module has no types
    """Give the module's logger; what it is told in this block reaches `listener` too."""
    logger = shared(trt)
    logger.listeners.append(listener)
    try:
        yield logger
    finally:
        logger.listeners.remove(listener)


@cache
def shared(trt: Any) -> Any:  # noqa: ANN401 - the module has no types
    """The logger of a module. Its `listeners` are called by whichever thread has something to say."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the module has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.listeners: list[Listener] = []

        def log(self, severity: Any, text: str) -> None:  # noqa: ANN401 - the module's Severity
            for listener in tuple(self.listeners):
                listener(severity, text)

    return Logger()
