"""Building the operator library: what a machine without its tools is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_graphs.errors import Qwen3Error
from qwen3_plugins import ort
from qwen3_plugins.ort import compile as native

ROOT = Path(__file__).parents[3]


def test_without_a_compiler_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(native.NoCompilerError, match=r"no C\+\+ compiler found .*: install one"):
        native.compile_library(output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_cmake_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(native, "find_spec", lambda _: None)
    with pytest.raises(native.OperatorBuildError, match="CMake not found: install it"):
        native.compile_library(output=tmp_path / "lib")


def test_a_compiler_that_fails_leaves_the_library_of_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'error: this compiler is broken'; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    before = tmp_path / "lib" / ort.LIBRARY_NAME
    before.parent.mkdir()
    before.write_bytes(b"before")
    with pytest.raises(native.OperatorBuildError, match=r"error: this compiler is broken .*log\.txt"):
        native.compile_library(output=before.parent)
    assert before.read_bytes() == b"before"


@pytest.fixture
def cmake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A CMake that fails, and says whether it found a cache in the build folder."""
    script = tmp_path / "cmake"
    script.write_text(
        '#!/bin/sh\n[ -e "$4/CMakeCache.txt" ] && echo "error: with a cache" || echo "error: afresh"\nexit 1\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(native, "cmake_command", lambda: [str(script)])
    return script


def cached(build: Path, *, home: Path, place: Path, tool: str) -> None:
    build.mkdir()
    (build / "CMakeCache.txt").write_text(
        f"CMAKE_HOME_DIRECTORY:INTERNAL={home}\nCMAKE_CACHEFILE_DIR:INTERNAL={place}\nCMAKE_MAKE_PROGRAM:FILEPATH={tool}\n"
    )


@pytest.mark.usefixtures("cmake")
def test_a_build_folder_of_the_same_sources_is_used_again(tmp_path: Path) -> None:
    build = tmp_path / "build"
    cached(build, home=Path(native.__file__).parent, place=build, tool=sys.executable)
    with pytest.raises(native.OperatorBuildError, match="with a cache"):
        native.compile_library(output=tmp_path / "lib", build=build)


@pytest.mark.usefixtures("cmake")
@pytest.mark.parametrize("stale", ["home", "place", "tool"])
def test_a_build_folder_that_was_copied_or_lost_its_tool_is_made_anew(tmp_path: Path, stale: str) -> None:
    build = tmp_path / "build"
    entries = {"home": Path(native.__file__).parent, "place": build, "tool": sys.executable}
    cached(build, **{**entries, stale: tmp_path / "elsewhere"})
    with pytest.raises(native.OperatorBuildError, match="afresh"):
        native.compile_library(output=tmp_path / "lib", build=build)


def test_the_builder_needs_nothing_that_is_not_in_this_repository() -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT / 'graphs'), str(ROOT / 'plugins')]}; import qwen3_plugins.ort.compile"
    )
    command = [sys.executable, "-I", "-S", "-c", code]  # without installed packages
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_its_errors_are_of_the_family_that_is_reported_in_one_line() -> None:
    assert issubclass(native.NoCompilerError, native.OperatorBuildError)
    assert issubclass(native.OperatorBuildError, Qwen3Error)


def test_another_system_than_linux_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(native.NoCompilerError, match="it is for Linux, this is darwin"):
        native.compile_library(output=tmp_path)


def test_the_command_reports_in_one_line(tmp_path: Path) -> None:
    environment = {"CXX": "no-such-compiler", "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin"}
    command = [sys.executable, "-m", "qwen3_plugins.ort.compile", "--output", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no C++ compiler found")
    assert done.stderr.count("\n") == 1


def test_the_note_of_the_build_explains_a_missing_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ort, "_FOLDER", tmp_path)
    assert ort.library_path() is None
    assert "it has not been built" in ort.why_missing()
    (tmp_path / "not-built.txt").write_text("no C++ compiler found\n")
    assert "(no C++ compiler found): run `python -m qwen3_plugins.ort.compile`" in ort.why_missing()
