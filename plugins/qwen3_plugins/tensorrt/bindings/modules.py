"""Imports the Python modules of TensorRT, TensorRT-RTX and CUDA.

When the ONNX parser of TensorRT-RTX 1.7 meets its first plugin, the library opens itself once more by the name
`libtensorrt_rtx.so`, which its wheel does not contain (it has `libtensorrt_rtx.so.1` only), and the process is
aborted. The library looks for that name in its own folder first (RPATH `$ORIGIN`), and a folder of links counts as
its own when the library was loaded through it. So `load_tensorrt` makes such a folder for the life of the process and
loads the library through it before the Python module does; nothing is written to the installation and no environment
variable is needed.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qwen3_plugins.tensorrt.errors import BindingsError, MissingModuleError

if TYPE_CHECKING:
    from types import ModuleType

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""The Python module of each backend."""

_RTX_LIBRARIES = ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")  # the second needs the first
_EXPECTED_NAME = "libtensorrt_rtx.so"


def load_tensorrt(backend: str, *, plugins: bool = True) -> ModuleType:
    """Import the module of a backend. Later calls return the same module.

    Args:
        backend: a key of `MODULES`.
        plugins: whether our plugins are to work with it. TensorRT-RTX has to be imported here first for that, before
            anything else in the process imports it.

    Raises:
        MissingModuleError: the module is not installed or does not load.
        BindingsError: something else has imported `tensorrt_rtx` first, whose libraries are then fixed.
    """
    name = MODULES[backend]
    if name == "tensorrt_rtx":
        _link_libraries(required=plugins)
    module = _import_module(name)
    if not hasattr(module, "Builder"):  # an index may hold a package of that name with nothing in it
        raise MissingModuleError(f"the installed Python module {name} has no builder")
    return module


def load_cuda(part: Literal["driver", "runtime"]) -> ModuleType:
    """Import CUDA's driver interface or its runtime interface.

    Raises:
        MissingModuleError: the module is not installed or does not load.
    """
    return _import_module(f"cuda.bindings.{part}")


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        here = error.name is not None and f"{name}.".startswith(f"{error.name}.")
        missing = "is not installed" if here else f"needs {error.name}, which is not installed"
        raise MissingModuleError(f"the Python module {name} {missing}") from None
    except (ImportError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingModuleError(f"the Python module {name} does not load ({first})") from None


def _link_libraries(*, required: bool) -> None:
    """Load TensorRT-RTX's libraries through a folder of links; see the head of this module.

    Raises:
        BindingsError: they are loaded already, in another way, and `required` is true.
        MissingModuleError: they do not load.
    """
    if _Linked.folder is not None or sys.platform != "linux":
        return
    found = importlib.util.find_spec("tensorrt_rtx_libs")
    if found is None or found.origin is None:
        return  # installed by other means than the wheel: the system's linker knows its names
    installed = Path(found.origin).parent
    if (installed / _EXPECTED_NAME).exists():
        return
    if "tensorrt_rtx_libs" in sys.modules:
        if not required:
            return
        raise BindingsError(
            "tensorrt_rtx was imported by something else before, so our plugins cannot be used in this process: import "
            "it by qwen3_plugins.tensorrt.bindings.modules.load_tensorrt('tensorrt-rtx')"
        )
    folder = Path(tempfile.mkdtemp(prefix="qwen3-tensorrt-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in _RTX_LIBRARIES:
        (folder / name).symlink_to(installed / name)
    (folder / _EXPECTED_NAME).symlink_to(installed / _RTX_LIBRARIES[0])
    try:
        for name in _RTX_LIBRARIES:
            ctypes.CDLL(str(folder / name))
    except OSError as error:
        raise MissingModuleError(f"the libraries of tensorrt_rtx do not load ({error})") from None
    _Linked.folder = folder


class _Linked:
    """The folder of links that the libraries were loaded through, once they are."""

    folder: Path | None = None
