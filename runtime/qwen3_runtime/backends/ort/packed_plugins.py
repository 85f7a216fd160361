"""ONNX Runtime with our operators (`qwen3_plugins.ort`): packed steps over a paged cache that is written in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs import interface
from qwen3_runtime.backends.elements import step_model
from qwen3_runtime.backends.ort.packed import PackedSessionBackend
from qwen3_runtime.backends.ort.session import open_session
from qwen3_runtime.engine_files import MODEL
from qwen3_runtime.errors import UnsupportedEngineError

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_runtime.backends import Sizes
    from qwen3_runtime.manifest import Manifest

BLOCK_SIZE = 64
"""Tokens of a cache block: long enough to be read in sequence, short enough to waste little of a short answer."""


def open_backend(engine_dir: Path, manifest: Manifest, sizes: Sizes) -> PackedSessionBackend:
    """Open an engine of our operators; see `qwen3_runtime.backends.open_backend`.

    Raises:
        UnsupportedEngineError: the engine is for another provider or has a cache that these operators do not have, or
            the operator library is missing.
    """
    model = manifest.io
    if manifest.target.provider != "cpu":
        raise UnsupportedEngineError(f"the engine is for provider {manifest.target.provider!r}; this backend has cpu")
    if model.cache_dtype not in ("float16", "int8"):
        raise UnsupportedEngineError(f"the engine's cache is {model.cache_dtype}; this backend has float16 and int8")
    session = open_session(engine_dir / MODEL, "CPUExecutionProvider", sizes.threads, _library())
    return PackedSessionBackend(session, interface.packed_plugins(step_model(model)), model, sizes, BLOCK_SIZE)


def _library() -> Path:
    """The operator library.

    Raises:
        UnsupportedEngineError: it was not built here.
    """
    from qwen3_plugins.ort import library_path, why_missing

    path = library_path()
    if path is None:
        raise UnsupportedEngineError(why_missing())
    return path
