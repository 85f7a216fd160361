"""The runtime is light: three base dependencies, nothing of the compiler, and half a second to import."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import qwen3_graphs
import qwen3_runtime

PACKAGE = Path(qwen3_runtime.__file__).parent
# The operator library's place and the bindings come from the plugins, which stand on numpy alone.
BASE = {"jinja2", "numpy", "tokenizers", "qwen3_runtime", "qwen3_plugins", *sys.stdlib_module_names}
# Imported where a backend is opened or a signature is checked, never by `import qwen3_runtime`.
ON_DEMAND = {"onnxruntime", "cryptography", "cuda", "tensorrt", "tensorrt_rtx"}
FORBIDDEN = {"torch", "onnx", "onnx_ir", "transformers", "pydantic", "qwen3_compile"}
# Of the graphs, what is declared for all packages, in modules that import nothing but the standard library.
DECLARED = {"qwen3_graphs", "qwen3_graphs.errors", "qwen3_graphs.interface"}


def test_importing_it_loads_neither_torch_nor_onnx_nor_the_compiler() -> None:
    report = "import sys, json, qwen3_runtime; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "numpy" in loaded
    assert not loaded & (FORBIDDEN | ON_DEMAND)


def test_importing_it_takes_less_than_half_a_second_of_processor_time() -> None:
    report = "import time; s = time.process_time(); import qwen3_runtime; print(time.process_time() - s)"
    attempts = (
        float(subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True).stdout)
        for _ in range(10)  # a busy machine slows some of them
    )
    assert any(seconds < 0.5 for seconds in attempts)


def test_its_source_imports_only_the_base_dependencies() -> None:
    for path in PACKAGE.rglob("*.py"):
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            assert name in DECLARED or name.split(".")[0] in BASE | ON_DEMAND, f"{path}: imports {name}"


def test_what_it_takes_from_the_graphs_imports_nothing() -> None:
    for module in DECLARED:
        path = Path(importlib.import_module(module).__file__ or "")
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            assert name.split(".")[0] in sys.stdlib_module_names, f"{path}: imports {name}"
    assert Path(qwen3_graphs.__file__ or "").read_text(encoding="utf-8").count("import") == 0


def imported(tree: ast.AST) -> set[str]:
    """Modules that a module imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            names.add(str(node.module))
    return names


def test_no_module_imports_itself_through_others() -> None:
    """Imports for types alone count too: a module is read after those that it speaks of."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    uses = {name: used(ast.parse(path.read_text(encoding="utf-8")), set(modules)) for name, path in modules.items()}
    for name in modules:
        reached, waiting = set[str](), [name]
        while waiting:
            new = uses[waiting.pop()] - reached
            reached |= new
            waiting += new
        assert name not in reached


def used(tree: ast.AST, modules: set[str]) -> set[str]:
    """Those of the modules that a module imports, or imports a name from."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & modules or {str(node.module)} & modules
    return found
