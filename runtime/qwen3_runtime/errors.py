"""The errors of the runtime: each message says what was expected, what was found and what to do."""

from __future__ import annotations


class RuntimeFault(Exception):  # noqa: N818 - a family name; its members end in Error
    """Any error that the runtime raises on purpose."""


class EngineError(RuntimeFault):
    """An engine directory is damaged, incomplete, or made for another version, machine or provider."""


class RequestError(RuntimeFault):
    """A request cannot be served as it stands: prompt, messages, sampling or budget."""


class UnknownOptionError(RequestError, TypeError):
    """An option that no request has. It is a `TypeError` too, as for any unknown keyword argument of Python."""
