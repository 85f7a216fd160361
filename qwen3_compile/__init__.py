"""The compiler: from a YAML spec to a verified engine."""

from importlib import import_module

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":  # the runtime's, looked up late: what is cached by code does not depend on all of it
        return str(import_module("qwen3_runtime").__version__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
