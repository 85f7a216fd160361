"""The family of this project's errors, and those of the graphs.

This module imports nothing, so that every package can derive its errors from the family.
"""

from __future__ import annotations


class Qwen3Error(Exception):
    """Any error that this project raises on purpose. The command line reports it in one line.

    The message says what was expected, what was found and what to do.
    """


class LoweringError(Qwen3Error):
    """A precision or model that a target's operators cannot compute."""


class TraceError(Qwen3Error):
    """PyTorch's exporter gave something that this version of the tracer does not know; another PyTorch may do."""
