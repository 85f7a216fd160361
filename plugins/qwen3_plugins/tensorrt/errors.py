"""The errors of the TensorRT plugins: one line that says what was expected, what was found and what to do."""

from __future__ import annotations

from qwen3_graphs.errors import Qwen3Error


class PluginError(Qwen3Error):
    """An attribute, type or shape that a plugin does not compute, or a kernel that is missing."""


class KernelCompileError(Qwen3Error):
    """A kernel could not be compiled; one line says which, for what, and why."""


class BindingsError(Qwen3Error):
    """NVIDIA's Python modules cannot be used as asked, or CUDA failed."""


class MissingModuleError(BindingsError):
    """One of NVIDIA's Python modules is not installed, or does not load: installing it helps."""
