"""Whether plans can be built here: the Python module of a backend, and the GPU that the full TensorRT builds for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_compile.errors import UnsupportedError
from qwen3_plugins.tensorrt.bindings import modules
from qwen3_plugins.tensorrt.bindings.device import Device
from qwen3_plugins.tensorrt.errors import BindingsError, MissingModuleError
from qwen3_runtime.installation import tensorrt_command

if TYPE_CHECKING:
    from types import ModuleType


def load_library(backend: str) -> ModuleType:
    """Import the module of a backend, so that it can build with our plugins too.

    Raises:
        UnsupportedError: it is not installed, its libraries do not load, or something else in this process loaded them
            in another way; says what to do.
    """
    try:
        return modules.load_tensorrt(backend)
    except MissingModuleError as error:
        raise UnsupportedError(f"target {backend}: {error}: {tensorrt_command(backend)}") from None
    except BindingsError as error:
        raise UnsupportedError(f"target {backend}: {error}") from None


def find_capabilities(backend: str, capabilities: list[str]) -> list[str]:
    """Find out, before any work, for which architectures plans can be built here.

    Args:
        backend: `tensorrt` or `tensorrt-rtx`.
        capabilities: the architectures that the spec names; none stands for the GPU here.

    Returns:
        The architectures to build for.

    Raises:
        UnsupportedError: the module is missing; or the backend builds on the GPU that runs the engine, and there is
            none here, or one of another architecture.
    """
    load_library(backend)
    if backend == "tensorrt-rtx":
        return capabilities
    found = _capability_here(backend)
    if capabilities not in ([], [found]):
        raise UnsupportedError(
            f"target.compute_capabilities names {capabilities[0]}, the GPU here has {found}: "
            "backend tensorrt builds on the GPU that runs the engine"
        )
    return [found]


def _capability_here(backend: str) -> str:
    try:
        device = Device(modules.load_cuda("runtime"))
    except BindingsError as error:
        raise UnsupportedError(
            f"backend {backend} builds on the GPU that runs the engine ({error}); "
            "backend tensorrt-rtx builds without a GPU"
        ) from None
    try:
        return device.compute_capability
    finally:
        device.close()
