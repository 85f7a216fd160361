"""Starts kernels on the GPU, by CUDA's driver interface (`cuda-python`). Nothing here can run without one."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any

from qwen3_plugins.tensorrt.bindings.modules import load_cuda
from qwen3_plugins.tensorrt.errors import BindingsError
from qwen3_plugins.tensorrt.operator import Scratch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwen3_plugins.tensorrt.binary import Binary
    from qwen3_plugins.tensorrt.operator import Launch

_DEFAULT_SHARED_BYTES = 48 * 1024  # above it a function has to be told (CUDA C++ programming guide, "Shared Memory")


def capability() -> int:
    """Return the compute capability, times ten, of the GPU of the calling thread's context."""
    driver = _driver()
    kinds = driver.CUdevice_attribute
    device = _done(driver.cuCtxGetDevice())
    major = _done(driver.cuDeviceGetAttribute(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device))
    minor = _done(driver.cuDeviceGetAttribute(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device))
    return 10 * int(major) + int(minor)


def launch_kernel(launch: Launch, binary: Binary, pointers: Mapping[str, int], workspace: int, stream: int) -> None:
    """Put one kernel on a stream.

    Args:
        launch: its grid and arguments.
        binary: its code.
        pointers: addresses of the operator's inputs and outputs, by name.
        workspace: address of the operator's scratch memory.
        stream: CUDA stream.

    Raises:
        BindingsError: the driver refused it.
    """
    values: list[int] = []
    kinds: list[Any] = []
    for argument in launch.arguments:
        if isinstance(argument, int):
            values.append(argument)
            kinds.append(ctypes.c_int32)
        else:
            values.append(workspace + argument.offset if isinstance(argument, Scratch) else pointers[argument])
            kinds.append(ctypes.c_void_p)
    values += [0, 0]  # Triton's two pointers to scratch memory, which these kernels do not have
    kinds += [ctypes.c_void_p, ctypes.c_void_p]
    driver = _driver()
    function = load(binary)
    block = (binary.threads, 1, 1)
    arguments = (tuple(values), tuple(kinds))
    _done(driver.cuLaunchKernel(function, *launch.grid, *block, binary.shared, stream, arguments, 0))


def load(binary: Binary) -> Any:  # noqa: ANN401 - the driver's handle
    """Load a kernel into the current context, once, and return its function.

    Raises:
        BindingsError: the driver refused it.
    """
    return _function(int(_done(_driver().cuCtxGetCurrent())), binary)


@cache
def _function(_context: int, binary: Binary) -> Any:  # noqa: ANN401 - the driver's handle
    """Load a kernel; it stays in the context until that ends."""
    driver = _driver()
    module = _done(driver.cuModuleLoadData(binary.cubin))
    function = _done(driver.cuModuleGetFunction(module, binary.entry.encode()))
    if binary.shared > _DEFAULT_SHARED_BYTES:
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _done(driver.cuFuncSetAttribute(function, limit, binary.shared))
    return function


def _driver() -> Any:  # noqa: ANN401 - a module without types
    return load_cuda("driver")


def _done(answer: tuple[Any, ...]) -> Any:  # noqa: ANN401 - whatever the driver's function returns
    """Return what a driver function gave beside its status."""
    status, *values = answer
    if int(status) != 0:
        raise BindingsError(f"CUDA could not start a plugin's kernel: {status}")
    return values[0] if values else None
