"""Backends: what executes the steps of an engine, chosen by the target that the engine was built for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_runtime.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_runtime.manifest import Manifest
    from qwen3_runtime.step import Backend


def open_backend(
    engine_dir: Path, manifest: Manifest, *, threads: int | None, max_sequences: int, max_context: int
) -> Backend:
    """Open the backend of an engine whose directory was checked.

    Args:
        engine_dir: the engine directory.
        manifest: its manifest.
        threads: of the provider; None for one each physical core.
        max_sequences: sequences that the cache holds.
        max_context: tokens that a sequence may hold.

    Raises:
        EngineError: this runtime has no backend for the engine's target, or it cannot run here.
    """
    if manifest.target.backend in ("ort", "onnx"):
        from qwen3_runtime.backends.ort import OrtBackend

        return OrtBackend(engine_dir, manifest, threads=threads, max_sequences=max_sequences, max_context=max_context)
    if manifest.target.backend == "ort-cpu":
        from qwen3_runtime.backends.ort_cpu import OrtCpuBackend

        return OrtCpuBackend(
            engine_dir, manifest, threads=threads, max_sequences=max_sequences, max_context=max_context
        )
    raise EngineError(
        f"the engine was built for target {manifest.target.backend!r}; this runtime executes ort-cpu, ort and onnx"
    )
