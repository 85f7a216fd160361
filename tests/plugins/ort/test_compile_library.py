"""Building the operator library: what a machine without its tools is told."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from qwen3_plugins import ort
from qwen3_plugins.ort import compile as native

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_compiler_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(native.CompileError, match=r"no C\+\+ compiler found .*: install one"):
        native.compile_library(output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_cmake_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(native, "find_spec", lambda _: None)
    with pytest.raises(native.CompileError, match="CMake not found: install it"):
        native.compile_library(output=tmp_path / "lib")


def test_a_compiler_that_fails_leaves_the_library_of_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'error: this compiler is broken'; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    before = tmp_path / "lib" / ort.LIBRARY_NAME
    before.parent.mkdir()
    before.write_bytes(b"before")
    with pytest.raises(native.CompileError, match=r"error: this compiler is broken .*log\.txt"):
        native.compile_library(output=before.parent)
    assert before.read_bytes() == b"before"


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
