"""The errors of the graphs: each message says what was asked for, what was found and what to change."""

from __future__ import annotations


class LoweringError(ValueError):
    """A precision or model that a target's operators cannot compute."""


class TraceError(RuntimeError):
    """The exporter gave something else than this version of the tracer knows; another PyTorch may be the cause."""
