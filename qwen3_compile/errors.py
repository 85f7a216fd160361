"""The errors of the compiler: each message says what was expected, what was found and what to do."""

from __future__ import annotations

from qwen3_graphs.errors import Qwen3Error


class CompileError(Qwen3Error):
    """Any error that the compiler raises on purpose."""


class SpecError(CompileError):
    """A spec that cannot be read or does not hold together."""


class CheckpointError(CompileError):
    """A checkpoint that is missing, damaged or not what the spec expects."""


class UnsupportedError(CompileError):
    """A combination of model, precision and target that no lowering can express."""


class AccuracyError(CompileError):
    """An engine that misses the accuracy limits of its spec."""


class LockError(CompileError):
    """An input of a locked build is not the one that the engine was made from."""
