"""The errors of the TensorRT plugins: one line that says what was expected, what was found and what to do."""

from __future__ import annotations


class PluginError(ValueError):
    """An attribute, type or shape that a plugin does not compute, or a library or kernel that is missing."""
