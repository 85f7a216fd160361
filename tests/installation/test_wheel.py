"""What a wheel holds, how it is tagged, and when building one fails.

Covers: tag, contents, failing builds, a stale CMake cache
Reference: auditwheel
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

import qwen3_runtime
from qwen3_compile.checkpoint import open_checkpoint, opening
from qwen3_compile.errors import CheckpointError
from qwen3_plugins import ort
from qwen3_plugins.ort import compile as native

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore")
FOLDERS = ("qwen3_compile", "graphs", "plugins", "runtime", "specs", "examples")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources: a build writes into its tree, and puts it on the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "lib"))
    return copy


def build(tree: Path) -> Path:
    return Path(next(WheelBuilder(str(tree)).build(directory=str(tree.parent / "dist"), versions=["standard"])))


@pytest.fixture
def wheel(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with the library that the tests run with."""
    library = ort.library_path()
    assert library is not None

    def compiled(*, output: Path, **_: Any) -> Path:
        output.mkdir(parents=True)
        return Path(shutil.copy(library, output))

    monkeypatch.setattr(native, "compile_library", compiled)
    return build(tree)


def test_the_tag_is_what_auditwheel_finds_and_old_enough(wheel: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True, check=True
    )
    found = re.search(r'constrains the platform tag to "(manylinux_2_(\d+)_\w+)"', " ".join(said.stdout.split()))
    assert found
    assert wheel.name == f"qwen3_compile-{qwen3_runtime.__version__}-py3-none-{found[1]}.whl"
    newest = os.confstr("CS_GNU_LIBC_VERSION") or ""
    # src/old_glibc.cpp was written for what glibc 2.36 and GCC 12 add; newer ones may add more: the tag then says so.
    assert int(found[2]) <= 28 or newest > "glibc 2.36"


def test_it_holds_the_specs_and_the_library_but_no_checkpoint_and_no_training_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(archive.read(next(n for n in names if n.endswith("/METADATA"))).decode())
    assert f"qwen3_plugins/ort/lib/{ort.LIBRARY_NAME}" in names
    assert {f"qwen3_compile/specs/{path.name}" for path in (ROOT / "specs").iterdir()} <= set(names)
    assert not [name for name in names if "examples" in name or name.endswith((".safetensors", "tokenizer.json"))]
    assert sum(path.stat().st_size for path in [wheel]) < 2 << 20
    assert metadata["Version"] == qwen3_runtime.__version__
    assert "serve" not in metadata.get_all("Provides-Extra")


def test_a_tiny_spec_of_a_wheel_says_where_its_checkpoint_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PACKAGED", tmp_path)
    with pytest.raises(CheckpointError, match=r"project's repository \(examples/tiny\).*model.source=synthetic://0"):
        open_checkpoint("../examples/tiny/dense", base_dir=tmp_path)


def test_a_compiler_that_fails_ends_the_build_loudly(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("QWEN3_ORT_BUILD", raising=False)
    monkeypatch.setattr(native, "compile_library", failing(native.OperatorBuildError("cannot compile moe.cpp")))
    with pytest.raises(SystemExit) as ended:
        build(tree)
    assert ended.value.code == 1
    said = capfd.readouterr()
    assert "is not built: cannot compile moe.cpp; QWEN3_ORT_BUILD=skip installs without it" in said.out + said.err
    assert not list(tree.parent.glob("dist/*.whl"))


def test_without_a_compiler_the_wheel_holds_the_reason_and_fits_every_platform(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QWEN3_ORT_BUILD", "auto")
    monkeypatch.setattr(native, "compile_library", failing(native.NoCompilerError("no C++ compiler found")))
    wheel = build(tree)
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("qwen3_plugins/ort/lib/not-built.txt") == b"no C++ compiler found\n"


def test_a_release_requires_the_library(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN3_ORT_BUILD", "require")
    monkeypatch.setattr(native, "compile_library", failing(native.NoCompilerError("no C++ compiler found")))
    with pytest.raises(SystemExit):
        build(tree)


def failing(error: Exception) -> Any:
    def compile_library(**_: Any) -> Path:
        raise error

    return compile_library
