"""A target's folder imports itself and the core, never another target."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from qwen3_graphs.lower import LOWERINGS

PACKAGES = ("qwen3_graphs.lower", "qwen3_compile.pack.layouts")
TARGETS = set(LOWERINGS)


def imported(source: str) -> set[str]:
    """Dotted names of everything a module imports, relative imports refused."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def foreign(package: str, folder: str, source: str) -> set[str]:
    """Names that a module in `folder` of `package` imports from a folder that is neither its own nor the core."""
    inside = {name.removeprefix(f"{package}.") for name in imported(source) if name.startswith(f"{package}.")}
    return {name for name in inside if name.partition(".")[0] not in {folder, "core"}}


def folders(package: str) -> list[Path]:
    root = Path(str(importlib.import_module(package).__file__)).parent
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name != "__pycache__")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_is_the_core_or_a_target(package: str) -> None:
    assert {folder.name for folder in folders(package)} == TARGETS | {"core"}


@pytest.mark.parametrize("package", PACKAGES)
def test_targets_share_through_the_core_alone(package: str) -> None:
    arrows = {
        f"{path.relative_to(folder.parent)} imports {name}"
        for folder in folders(package)
        for path in folder.rglob("*.py")
        for name in foreign(package, folder.name, path.read_text(encoding="utf-8"))
    }
    assert not arrows


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from qwen3_graphs.lower.ort.operators import CONTRIB", {"ort.operators.CONTRIB"}),
        ("from qwen3_graphs.lower import onnx", {"onnx"}),
        ("import qwen3_graphs.lower.ort.cpu", {"ort.cpu"}),
        ("def late():\n    from qwen3_graphs.lower.onnx import graph", {"onnx.graph"}),
        (
            "import onnx\nfrom qwen3_graphs.lower.core import weights\nfrom qwen3_graphs.lower.tensorrt import graph",
            set(),
        ),
    ],
)
def test_an_arrow_to_another_target_is_found(source: str, found: set[str]) -> None:
    assert foreign("qwen3_graphs.lower", "tensorrt", source) == found
