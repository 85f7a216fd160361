"""Part of the package's build: compiles the ONNX Runtime operator library where there is a C++ compiler.

Without one the package installs all the same, and all targets but `ort with plugins` work:
`qwen3_plugins.ort.why_missing` says why that one does not. With one, a library that cannot be built fails the build.
QWEN3_ORT_BUILD=require fails without a compiler too, QWEN3_ORT_BUILD=skip compiles nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_ROOT = Path(__file__).parent
sys.path[:0] = [str(_ROOT / "plugins"), str(_ROOT / "graphs")]

from qwen3_plugins.ort import compile as native  # noqa: E402 - found through the line above

_LIB = "plugins/qwen3_plugins/ort/lib"


class OperatorLibraryHook(BuildHookInterface[Any]):
    """Builds the library into the source tree, and adds it to a wheel."""

    def dependencies(self) -> list[str]:
        """CMake from PyPI, where there is something to build and no CMake on the path."""
        wanted = _mode() != "skip" and native.compiler() is not None and native.cmake_command() is None
        return ["cmake>=3.18"] if wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, or leave a note that says why not."""
        del version  # an editable install and a wheel both need the library beside its sources
        if self.target_name != "wheel":
            return
        folder = Path(self.root) / _LIB
        try:
            library = _compile(folder)
        except native.NoCompilerError as error:
            if _mode() == "require":
                self.app.abort(f"the operator library of target ort with plugins is not built: {error}")
            self._leave_note(folder, str(error), build_data)
            return
        except native.OperatorBuildError as error:
            instead = "QWEN3_ORT_BUILD=skip installs without it"
            self.app.abort(f"the operator library of target ort with plugins is not built: {error}; {instead}")
            return
        build_data["artifacts"].append(f"{_LIB}/{library.name}")
        build_data["pure_python"] = False
        # Nothing in the library depends on the version of Python.
        build_data["tag"] = f"py3-none-{native.wheel_platform(library)}"

    def _leave_note(self, folder: Path, reason: str, build_data: dict[str, Any]) -> None:
        self.app.display_warning(f"the operator library of target ort with plugins is not built: {reason}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / native.LIBRARY_NAME).unlink(missing_ok=True)
        (folder / "not-built.txt").write_text(f"{reason}\n", encoding="utf-8")
        build_data["artifacts"].append(f"{_LIB}/not-built.txt")


def _compile(folder: Path) -> Path:
    if _mode() == "skip":
        raise native.NoCompilerError("QWEN3_ORT_BUILD=skip was set")
    return native.compile_library(output=folder)


def _mode() -> str:
    return os.environ.get("QWEN3_ORT_BUILD", "auto")
