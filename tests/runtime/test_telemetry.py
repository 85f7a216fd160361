"""ONNX Runtime sends telemetry unless it is told not to before it is imported; this project tells it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("qwen3_compile", "graphs", "plugins", "runtime", "benchmarks", "examples", "docs")
THE_ONE_PLACE = REPOSITORY / "runtime/qwen3_runtime/backends/ort/session.py"
NOT_OURS = REPOSITORY / "benchmarks/peers/genai_worker.py"  # runs in an environment whose variables we set


KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS", "QWEN3_ORT_LIBRARY")


def run(code: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with an empty HOME and nothing set that could switch telemetry (`CI` does, too) or caches."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {"HOME": str(home)} | variables
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


def written(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def test_building_opening_and_chatting_write_nothing_below_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    work = f"""
import time
from qwen3_compile.cli import main
assert main(["build", "specs/tiny-dense.yaml", "-o", {str(tmp_path / "engine")!r}, "--no-cache"]) == 0
assert main(["run", {str(tmp_path / "engine")!r}, "What is 12+34?"]) == 0
assert main(["doctor"]) == 0
from qwen3_runtime import Engine
with Engine.open({str(tmp_path / "engine")!r}) as engine:
    assert engine.chat([{{"role": "user", "content": "What is 12+34?"}}], max_tokens=8).tokens
time.sleep(1)  # the database appears a moment after the import
"""
    run(work, home)
    assert written(home) == []


def test_the_import_alone_would_write(tmp_path: Path) -> None:
    """What the test above relies on; when a release stops sending, this file can go."""
    wait = "for _ in range(600):\n if list(pathlib.Path.home().rglob('*.db')): break\n time.sleep(0.1)"
    run(f"import pathlib, time, onnxruntime\n{wait}", tmp_path)
    assert any("onnxruntime" in path for path in written(tmp_path))


def test_who_asks_for_telemetry_keeps_it(tmp_path: Path) -> None:
    ask = "from qwen3_runtime.backends.ort.session import import_onnxruntime as i; i(); import os; "
    said = run(ask + "print(os.environ['ORT_DISABLE_TELEMETRY'])", tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert said.stdout.split() == ["0"]
    assert run(ask + "print(os.environ['ORT_DISABLE_TELEMETRY'])", tmp_path).stdout.split() == ["1"]


@pytest.mark.parametrize("folder", SOURCES)
def test_one_function_imports_it(folder: str) -> None:
    importing = [
        path
        for path in (REPOSITORY / folder).rglob("*.py")
        if path not in (THE_ONE_PLACE, NOT_OURS) and imports_it(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert importing == []


def imports_it(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        if any(name.split(".")[0] in ("onnxruntime", "onnxruntime_genai") for name in names):
            return True
    return False
