"""Our plugins in a build: made known to TensorRT, and a graph as its parser has to be given it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_plugins.tensorrt import importing
from qwen3_plugins.tensorrt.v3 import allow_in_place, take_refusals

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from qwen3_compile.tensorrt.plan import PlanRequest

__all__ = ["allow_in_place", "plugin_graph", "take_refusals"]


def plugin_graph(trt: ModuleType, model: Path, request: PlanRequest) -> bytes:
    """Register the plugins and return the bytes to parse, of a graph whose weights lie beside `model`.

    TensorRT itself has plugins that leave no Python in the plan; TensorRT-RTX has not.
    """
    capabilities = tuple(int(text.replace(".", "")) for text in request.capabilities)
    if request.backend == "tensorrt":
        from importlib import import_module

        from qwen3_plugins.tensorrt import quick

        quick.register(import_module("tensorrt.plugin"), capabilities[0])
        return importing.as_quick(model.read_bytes())
    from qwen3_plugins.tensorrt import v3

    v3.register(trt, capabilities)
    return importing.without_functions(model.read_bytes())
