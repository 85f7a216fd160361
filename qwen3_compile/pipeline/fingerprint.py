"""What a stage's result depends on besides its inputs: our own code that computes it, and the libraries below."""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_compile.machine import installed_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OURS = ("qwen3_compile", "qwen3_graphs", "qwen3_plugins", "qwen3_runtime")

# Recorded in every manifest: whatever can change an engine's bytes or what they compute.
TOOLS = ("qwen3-compile", "ml-dtypes", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "tokenizers", "torch")


def tool_versions(names: Iterable[str] = TOOLS) -> dict[str, str]:
    """Installed version by distribution; one that is not installed is left out."""
    found = {name: installed_version(name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


def digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """SHA-256 of a JSON-able value, in hex; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


@cache
def code_fingerprint(*modules: str) -> str:
    """SHA-256 over the source of modules and of all of ours that they import, directly or not.

    Args:
        modules: dotted names; a package stands for every module in it.
    """
    parts: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in parts or (module := _module(name)) is None:
            continue
        parts[name] = module.sha256
        waiting += module.imports
        if name in modules:
            waiting += module.members
    return digest(parts)


def source_sha256(module: str) -> str | None:
    """SHA-256 of the source of one module of ours, without what it imports; None for another's."""
    return None if (found := _module(module)) is None else found.sha256


@dataclass(frozen=True)
class _Module:
    """One of our modules: the hash of its source, what it imports, and the modules of a package, by dotted name."""

    sha256: str
    imports: tuple[str, ...]
    members: tuple[str, ...]


@cache
def _module(name: str) -> _Module | None:
    """Read a module; stages share most of what they import, and each file is parsed once."""
    if (path := _source(name)) is None:
        return None
    members = _members(path.parent) if path.name == "__init__.py" else ()
    return _Module(
        hashlib.sha256(path.read_bytes()).hexdigest(),
        tuple(dict.fromkeys(_imports(name, path))),
        tuple(f"{name}.{found}" for found in members),
    )


def _source(name: str) -> Path | None:
    """The file of one of our modules, found without importing it (and torch with it)."""
    package, *parts = name.split(".")
    spec = find_spec(package) if package in _OURS else None
    for folder in (spec and spec.submodule_search_locations) or ():
        module = Path(folder, *parts)
        for path in (module / "__init__.py", module.with_name(f"{module.name}.py")):
            if path.is_file():
                return path
    return None


def _imports(name: str, path: Path) -> Iterator[str]:
    """Modules that a file may import, its parent packages among them; names that are no modules do no harm."""
    if "." in name:
        yield name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module.partition(".")[0] in _OURS:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _members(folder: Path) -> Iterator[str]:
    """Dotted names of a package's modules, relative to it; a package inside it counts by its `__init__`."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts != ("__init__",):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
