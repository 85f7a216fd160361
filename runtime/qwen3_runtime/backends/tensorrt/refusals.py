"""What TensorRT, CUDA or a plugin refuses, as errors of the runtime."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from qwen3_plugins.tensorrt.errors import BindingsError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_runtime.errors import EngineError


@contextlib.contextmanager
def refusals_as(kind: type[EngineError]) -> Iterator[None]:
    """Raise errors of bindings and plugins in this block as `kind`; their messages are whole."""
    try:
        yield
    except (BindingsError, PluginError) as error:
        raise kind(str(error)) from error
