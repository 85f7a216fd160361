"""Imports TensorRT or TensorRT-RTX so that a network with plugins can be parsed.

When the ONNX parser of TensorRT-RTX 1.7 meets its first plugin, the library opens itself once more by the name
`libtensorrt_rtx.so`, which its wheel does not contain (it has `libtensorrt_rtx.so.1` only), and the process is
aborted. The library looks for that name in its own folder first (RPATH `$ORIGIN`), and a folder of links counts as
its own when the library was loaded through it. So `load` makes such a folder for the life of the process and loads
the library through it before the Python module does; nothing is written to the installation and no environment
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

from qwen3_plugins.tensorrt.errors import PluginError

if TYPE_CHECKING:
    from types import ModuleType

ModuleName = Literal["tensorrt", "tensorrt_rtx"]

_RTX_LIBRARIES = ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")  # the second needs the first
_EXPECTED_NAME = "libtensorrt_rtx.so"


def load(name: ModuleName) -> ModuleType:
    """Import the module `name`; for `tensorrt_rtx`, with its libraries ready for plugins.

    Call this wherever the module is wanted, before anything else in the process imports it. Later calls return the
    same module.

    Raises:
        ModuleNotFoundError: the module is not installed.
        PluginError: something else has imported `tensorrt_rtx` first, whose libraries are then fixed.
    """
    if name == "tensorrt_rtx":
        _load_libraries()
    return importlib.import_module(name)


def _load_libraries() -> None:
    if _Linked.folder is not None or sys.platform != "linux":
        return
    found = importlib.util.find_spec("tensorrt_rtx_libs")
    if found is None or found.origin is None:
        return  # installed by other means than the wheel: the system's linker knows its names
    installed = Path(found.origin).parent
    if (installed / _EXPECTED_NAME).exists():
        return
    if "tensorrt_rtx_libs" in sys.modules:
        raise PluginError(
            "tensorrt_rtx was imported before qwen3_plugins.tensorrt.library.load, so plugins cannot be parsed in this "
            "process: import it by load('tensorrt_rtx')"
        )
    folder = Path(tempfile.mkdtemp(prefix="qwen3-tensorrt-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in _RTX_LIBRARIES:
        (folder / name).symlink_to(installed / name)
    (folder / _EXPECTED_NAME).symlink_to(installed / _RTX_LIBRARIES[0])
    for name in _RTX_LIBRARIES:
        ctypes.CDLL(str(folder / name))
    _Linked.folder = folder


class _Linked:
    """The folder of links that the libraries were loaded through, once they are."""

    folder: Path | None = None
