"""Ctrl-C while TensorRT builds: it works in a thread of its own, and is told to stop at its next step.

Python delivers a signal to the main thread, in the midst of whatever it runs next. While TensorRT builds there, that is
a method of the logger, and the bindings swallow what it raises: the build would go on as if nothing had been asked.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

Built = TypeVar("Built")


def build_interruptibly(trt: ModuleType, config: Any, build: Callable[[], Built]) -> Built:  # noqa: ANN401 - IBuilderConfig
    """Call `build`, which builds with `config`, and return its result.

    Args:
        trt: the module of the backend.
        config: the builder's configuration; it gets a progress monitor.
        build: works with that configuration.

    Raises:
        BaseException: what `build` raises; or what interrupted the wait for it (KeyboardInterrupt, SystemExit), once
            TensorRT has stopped.
    """
    monitor = _monitor(trt)()
    config.progress_monitor = monitor
    with ThreadPoolExecutor(1) as thread:
        building = thread.submit(build)
        try:
            return building.result()
        except BaseException:
            monitor.wanted = False
            raise


@cache
def _monitor(trt: Any) -> Any:  # noqa: ANN401 - the module has no types
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the module has no types
        """Tells TensorRT after each step whether to go on."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.wanted = True

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:  # noqa: ARG002 - TensorRT's signature
            return self.wanted

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor
