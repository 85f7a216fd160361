"""The compiler: from a YAML spec to a verified engine.

What is named here is the Python API of the compiler; everything else may change. It is imported when it is first used:
`import qwen3_compile` alone costs nothing.
"""

from importlib import import_module
from typing import Any

# Names and modules only: the cache's keys follow the imports of every module, and of the packages around it.
_API = {
    "AccuracyError": "errors",
    "CompileError": "errors",
    "EngineInfo": "pipeline.orchestrate",
    "Progress": "pipeline.progress",
    "Spec": "spec",
    "compile_engine": "api",
    "load_spec": "spec",
}
__all__ = [*_API, "__version__"]  # noqa: PLE0604 - names all of them


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is named
    if name == "__version__":
        return import_module("qwen3_runtime").__version__
    if name in _API:
        return getattr(import_module(f"{__name__}.{_API[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
