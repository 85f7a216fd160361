"""What all backends over ONNX Runtime share: a session held to an interface, and how a step fails."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from qwen3_runtime.backends.ort.session import check_interface, first_error_line
from qwen3_runtime.errors import EngineClosedError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_graphs.interface import StepInterface
    from qwen3_runtime.step import CacheGeometry, Output, Step


class SessionBackend:
    """A `Backend`, but for its cache and for how a step becomes calls of the session, which is `_run`.

    Args:
        session: an open session.
        interface: its inputs and outputs, by the manifest.

    Raises:
        DamagedEngineError: the graph has others.
    """

    _geometry: CacheGeometry

    def __init__(self, session: Any, interface: StepInterface) -> None:  # noqa: ANN401 - onnxruntime has no types
        check_interface(session, interface)
        self._session: Any = session
        self._interface = interface

    @property
    def cache(self) -> CacheGeometry:
        """The blocks of the cache."""
        return self._geometry

    def run(self, step: Step) -> Output:
        """Run one step; see `Backend.run`.

        Raises:
            StepFailedError: the step does not fit the cache or does not hold together, or ONNX Runtime failed.
            EngineClosedError: `close` was called.
        """
        if self._session is None:
            raise EngineClosedError("the backend is closed")
        return self._run(step)

    def _run(self, step: Step) -> Output:
        raise NotImplementedError

    def close(self) -> None:
        """Free the session and the cache."""
        self._session = None


@contextlib.contextmanager
def failures_reported() -> Iterator[None]:
    """Raise what ONNX Runtime raises in this block as `StepFailedError`, in one line."""
    try:
        yield
    except Exception as error:
        raise StepFailedError(f"ONNX Runtime failed in a step: {first_error_line(error)}") from error
