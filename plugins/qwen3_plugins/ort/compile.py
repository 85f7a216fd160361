"""Builds the operator library with the system's C++ compiler: `python -m qwen3_plugins.ort.compile`.

Only the standard library and this repository are used, so that the package's own build can call it before anything is
installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from qwen3_graphs.errors import Qwen3Error
from qwen3_plugins.ort import LIBRARY_NAME

__all__ = [
    "LIBRARY_NAME",
    "NoCompilerError",
    "OperatorBuildError",
    "cmake_command",
    "compile_library",
    "compiler",
    "wheel_platform",
]

_SOURCE = Path(__file__).parent


class OperatorBuildError(Qwen3Error):
    """The library could not be built; one line says what is missing or where the compiler's own words are."""


class NoCompilerError(OperatorBuildError):
    """This machine cannot build the library at all: no C++ compiler, or not Linux."""


def compiler() -> str | None:
    """The C++ compiler that a build would use: `CXX`, or the first of c++, g++ and clang++ on the path."""
    chosen = os.environ.get("CXX")
    names = [chosen] if chosen else ["c++", "g++", "clang++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def cmake_command() -> list[str] | None:
    """How to run CMake: from the path, or the one that the Python package `cmake` brings."""
    if path := shutil.which("cmake"):
        return [path]
    return [sys.executable, "-m", "cmake"] if find_spec("cmake") else None


def compile_library(
    *, output: Path | None = None, build: Path | None = None, options: tuple[str, ...] = (), jobs: int | None = None
) -> Path:
    """Configure and build the library.

    Args:
        output: folder that gets the library; `lib` beside this file if None. It is replaced in one step.
        build: CMake's build folder, kept for the next build; `build` inside of `output` if None.
        options: for CMake, such as `-DQWEN3_SANITIZE=ON`.
        jobs: files compiled at a time; the number of processors if None.

    Returns:
        The library.

    Raises:
        NoCompilerError: no compiler, or not Linux.
        OperatorBuildError: no CMake, or the build failed.
    """
    if sys.platform != "linux":
        raise NoCompilerError(f"it is for Linux, this is {sys.platform}")
    cxx, cmake = compiler(), cmake_command()
    if cxx is None:
        raise NoCompilerError("no C++ compiler found (CXX, c++, g++, clang++): install one, such as Debian's g++")
    if cmake is None:
        raise OperatorBuildError("CMake not found: install it, or `pip install cmake`")
    folder = output or _SOURCE / "lib"
    build = build or folder / "build"
    if _is_stale(build):
        shutil.rmtree(build)
    build.mkdir(parents=True, exist_ok=True)
    log = build / "log.txt"
    made = build / "made"
    steps = (
        [
            *cmake,
            "-S",
            str(_SOURCE),
            "-B",
            str(build),
            f"-DCMAKE_CXX_COMPILER={cxx}",
            f"-DQWEN3_OUTPUT={made}",
            *options,
        ],
        [*cmake, "--build", str(build), "--parallel", str(jobs or os.cpu_count() or 1)],
    )
    with log.open("w", encoding="utf-8") as file:
        for step in steps:
            if subprocess.run(step, stdout=file, stderr=subprocess.STDOUT, check=False).returncode != 0:
                raise OperatorBuildError(f"{_first_error(log)} (full output of the compiler: {log})")
    library = folder / LIBRARY_NAME
    beside = library.with_suffix(".new")
    shutil.copy2(made / LIBRARY_NAME, beside)
    beside.replace(library)
    (folder / "not-built.txt").unlink(missing_ok=True)
    return library


def wheel_platform(library: Path) -> str:
    """The platform tag of a wheel that holds the library: the oldest Linux on which its symbols are all found.

    Every version of the C library that a shared library needs is named in it, as `GLIBC_2.17`.
    """
    machine = re.sub(r"\W", "_", sysconfig.get_platform())
    minors = [int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)", library.read_bytes())]
    return machine.replace("linux", f"manylinux_2_{max(17, *minors)}", 1) if minors else machine


def _is_stale(build: Path) -> bool:
    """Whether a build folder belongs to other sources, to another place, or to a build tool that is gone."""
    cache = build / "CMakeCache.txt"
    if not cache.is_file():
        return False
    entries = dict(re.findall(r"^(CMAKE_\w+):\w+=(.*)$", cache.read_text(encoding="utf-8"), re.MULTILINE))
    same = [
        Path(entries.get("CMAKE_HOME_DIRECTORY", "")).resolve() == _SOURCE.resolve(),
        Path(entries.get("CMAKE_CACHEFILE_DIR", "")).resolve() == build.resolve(),
        Path(entries.get("CMAKE_MAKE_PROGRAM", "")).is_file(),
    ]
    return not all(same)


def _first_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = (line.strip() for mark in ("error:", "Error") for line in lines if mark in line)
    return next(said, "the build failed")


def main() -> int:
    """The command: builds, and says where the library is or why there is none."""
    parser = argparse.ArgumentParser(prog="python -m qwen3_plugins.ort.compile", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output", type=Path, help="folder for the library (default: beside the sources)")
    parser.add_argument("--sanitize", action="store_true", help="build with AddressSanitizer and UBSan, for tests")
    parser.add_argument("--jobs", type=int, help="files compiled at a time (default: the processors)")
    arguments = parser.parse_args()
    options = ("-DQWEN3_SANITIZE=ON",) if arguments.sanitize else ("-DQWEN3_SANITIZE=OFF",)
    try:
        library = compile_library(output=arguments.output, options=options, jobs=arguments.jobs)
    except OperatorBuildError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 1
    print(library)  # noqa: T201 - a command's output
    return 0


if __name__ == "__main__":
    sys.exit(main())
