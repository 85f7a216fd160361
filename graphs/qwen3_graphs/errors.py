"""The errors of the graphs: each message says what was asked for, what the target can do and what to change."""

from __future__ import annotations


class LoweringError(ValueError):
    """A precision or model that a target's operators cannot compute."""
