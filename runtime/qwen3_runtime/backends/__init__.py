"""Backends: what executes the steps of an engine, chosen by the target that the engine was built for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_runtime.backends.positions import check_positions
from qwen3_runtime.errors import RequestError, UnsupportedEngineError

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_runtime.manifest import Manifest
    from qwen3_runtime.step import Backend


def open_backend(
    engine_dir: Path,
    manifest: Manifest,
    *,
    threads: int | None,
    max_sequences: int,
    max_context: int,
    on_cpu: bool = False,
) -> Backend:
    """Open the backend of an engine whose directory was checked.

    Args:
        engine_dir: the engine directory.
        manifest: its manifest.
        threads: of the provider; None for one each physical core.
        max_sequences: sequences that the cache holds.
        max_context: tokens that a sequence may hold.
        on_cpu: execute the graph that a TensorRT plan was made from, with ONNX Runtime on the CPU; slow, for
            validation where there is no GPU.

    Raises:
        UnsupportedEngineError: this runtime has no backend for the engine's target, or it cannot run here.
        DamagedEngineError: the graph or the plan differs from the manifest.
        RequestError: `on_cpu` for an engine without a plan.
    """
    target = manifest.target
    if on_cpu and not target.has_plan:
        raise RequestError.at(
            "on_cpu", f"only TensorRT engines have a graph to run instead, this engine is for {target.backend}"
        )
    check_positions(engine_dir / "model.onnx", manifest.io.max_context)
    if target.has_plan and not on_cpu:
        from qwen3_runtime.backends.tensorrt import open_tensorrt

        return open_tensorrt(engine_dir, manifest, max_sequences=max_sequences, max_context=max_context)
    if target.has_plan and target.has_plugin("attention"):
        from qwen3_runtime.backends.ort_packed import OrtPackedBackend

        return OrtPackedBackend(
            engine_dir, manifest, threads=threads, max_sequences=max_sequences, max_context=max_context
        )
    if target.backend == "ort" and target.plugins == "all":
        from qwen3_runtime.backends.ort_cpu import OrtCpuBackend

        return OrtCpuBackend(
            engine_dir, manifest, threads=threads, max_sequences=max_sequences, max_context=max_context
        )
    if target.has_plan or (target.backend in ("ort", "onnx") and target.plugins == "none"):
        from qwen3_runtime.backends.ort import OrtBackend

        return OrtBackend(engine_dir, manifest, threads=threads, max_sequences=max_sequences, max_context=max_context)
    raise UnsupportedEngineError(
        f"the engine was built for target {target.backend!r} with plugins {target.plugins!r}; "
        "this runtime executes ort, onnx, tensorrt and tensorrt-rtx"
    )
