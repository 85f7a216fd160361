"""The Python module of a TensorRT target, and the GPU that a target without a choice of architectures builds for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qwen3_compile.errors import UnsupportedError
from qwen3_plugins.tensorrt.errors import PluginError
from qwen3_plugins.tensorrt.library import load
from qwen3_runtime.errors import EngineError
from qwen3_runtime.installation import install_command

if TYPE_CHECKING:
    from types import ModuleType

MODULES: dict[str, Literal["tensorrt", "tensorrt_rtx"]] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


def load_library(backend: str) -> ModuleType:
    """Import the module of a backend, so that it can build with our plugins too.

    Raises:
        UnsupportedError: it is not installed, its libraries do not load, or something else in this process loaded them
            in another way; says what to do.
    """
    name = MODULES[backend]
    full = "pip install 'tensorrt==11.*' cuda-python"  # its libraries take gigabytes: no extra brings them
    remedy = full if backend == "tensorrt" else install_command("tensorrt")
    try:
        module = load(name)
    except ModuleNotFoundError as error:
        missing = "is not installed" if error.name == name else f"needs {error.name}, which is not installed"
        raise UnsupportedError(f"target {backend} needs the module {name}: it {missing}: {remedy}") from None
    except (ImportError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(f"target {backend}: {name} does not load ({first}): {remedy}") from None
    except PluginError as error:
        raise UnsupportedError(f"target {backend}: {error}") from None
    if not hasattr(module, "Builder"):  # an index may hold a package of that name with nothing in it
        raise UnsupportedError(f"target {backend}: the installed module {name} has no builder: {remedy}")
    return module


def require_library(backend: str, capabilities: list[str]) -> list[str]:
    """Find out, before any work, whether plans can be built here.

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
    from qwen3_runtime.backends.tensorrt.device import Device
    from qwen3_runtime.backends.tensorrt.plan import import_bindings

    try:
        device = Device(import_bindings(backend)[1])
    except EngineError as error:
        raise UnsupportedError(
            f"backend {backend} builds on the GPU that runs the engine ({error}); backend tensorrt-rtx builds without"
        ) from None
    try:
        return device.compute_capability
    finally:
        device.close()
