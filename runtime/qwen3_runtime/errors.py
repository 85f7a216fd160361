"""The errors of the runtime: each message says what was expected, what was found and what to do.

A program tells them apart by their class or by `code`; the changelog tells of a code that changes, messages may always.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Self

from qwen3_graphs.errors import Qwen3Error


class EngineError(Qwen3Error):
    """Any error that the runtime raises on purpose; each is of one of the classes below.

    Attributes:
        code: the name of the class of errors, for programs.
        field: the argument that is wrong, such as `max_tokens`; None where no argument is at fault.
    """

    code: ClassVar[str] = "engine_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), field=self.field), (str(self),)


class DamagedEngineError(EngineError):
    """The engine directory is missing or incomplete, or a file in it is not what the manifest says."""

    code = "damaged_engine"


class UntrustedEngineError(EngineError):
    """No trusted key signed the engine as it is."""

    code = "untrusted_engine"


class UnsupportedEngineError(EngineError):
    """The engine is for another version, provider or GPU, or a package or memory that it needs is missing here."""

    code = "unsupported_engine"


class EngineClosedError(EngineError):
    """The engine was closed, or was opened by another process."""

    code = "engine_closed"


class OverloadedError(EngineError):
    """As many requests wait as `Engine.open(max_waiting=...)` allows. The same request can succeed later."""

    code = "overloaded"


class StepFailedError(EngineError):
    """The backend failed in a step, or its output cannot be used."""

    code = "step_failed"


class RequestError(EngineError):
    """A request, or an argument of `Engine.open`, is wrong as it stands; `field` names the argument."""

    code = "bad_request"
    field: str

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, field=field)

    @classmethod
    def at(cls, place: str, problem: str) -> Self:
        """The error `{place}: {problem}`, where `place` is an argument or a path into one, as `messages[0].role`."""
        return cls(f"{place}: {problem}", field=place.partition(".")[0].partition("[")[0])


class PromptTooLongError(RequestError):
    """The prompt, and the output where there is any, does not fit into the context."""

    code = "prompt_too_long"


class UnknownOptionError(RequestError, TypeError):
    """An option that does not exist. It is a `TypeError` too, as for any unknown keyword argument of Python."""

    code = "unknown_option"
