"""Backends: what executes the steps of an engine, chosen by the target that the engine was built for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from qwen3_runtime.backends.positions import check_positions
from qwen3_runtime.errors import RequestError, UnsupportedEngineError

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_runtime.manifest import EngineTarget, Manifest
    from qwen3_runtime.step import Backend


@dataclass(frozen=True)
class Sizes:
    """What a backend is opened with.

    Attributes:
        max_sequences: sequences that the cache holds.
        max_context: tokens that a sequence may hold.
        threads: of a provider on the CPU; None for one for each physical core.
    """

    max_sequences: int
    max_context: int
    threads: int | None = None


@dataclass(frozen=True)
class Opener:
    """Who opens the engines of a kind of target: modules with a function `open_backend(engine_dir, manifest, sizes)`.

    Attributes:
        module: imported where such an engine is opened, and with it what the backend needs.
        on_cpu: the module that executes the graph of a plan on the CPU instead; None where there is no plan.
    """

    module: str
    on_cpu: str | None = None


_PADDED = Opener("qwen3_runtime.backends.ort.padded")
_PACKED_PLUGINS = Opener("qwen3_runtime.backends.ort.packed_plugins")
_PADDED_PLAN = Opener("qwen3_runtime.backends.tensorrt", on_cpu="qwen3_runtime.backends.ort.padded")
_PACKED_PLAN = Opener("qwen3_runtime.backends.tensorrt", on_cpu="qwen3_runtime.backends.ort.packed")

OPENERS: dict[tuple[str, bool], Opener] = {
    ("ort", False): _PADDED,
    ("ort", True): _PACKED_PLUGINS,
    ("onnx", False): _PADDED,
    ("tensorrt", False): _PADDED_PLAN,
    ("tensorrt", True): _PACKED_PLAN,
    ("tensorrt-rtx", False): _PADDED_PLAN,
    ("tensorrt-rtx", True): _PACKED_PLAN,
}
"""By the target's backend, and whether its attention is our plugin."""


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
        threads: of the provider; None for one for each physical core.
        max_sequences: sequences that the cache holds.
        max_context: tokens that a sequence may hold.
        on_cpu: execute the graph that a TensorRT plan was made from, with ONNX Runtime on the CPU; slow, for
            validation where there is no GPU.

    Raises:
        UnsupportedEngineError: this runtime has no backend for the engine's target, or it cannot run here.
        DamagedEngineError: the graph or the plan differs from the manifest.
        RequestError: `on_cpu` for an engine without a plan.
    """
    opener = _opener(manifest.target)
    if on_cpu and opener.on_cpu is None:
        raise RequestError.at(
            "on_cpu",
            f"only TensorRT engines have a graph to run instead, this engine is for {manifest.target.backend}",
        )
    check_positions(engine_dir / "model.onnx", manifest.io.max_context)
    module = import_module((on_cpu and opener.on_cpu) or opener.module)
    backend: Backend = module.open_backend(engine_dir, manifest, Sizes(max_sequences, max_context, threads))
    return backend


def _opener(target: EngineTarget) -> Opener:
    opener = OPENERS.get((target.backend, target.has_plugin("attention")))
    # A plan says of each node what it is; other graphs have our operators throughout, or none of them.
    if opener is None or not (target.has_plan or target.plugins in ("all", "none")):
        known = ", ".join(dict.fromkeys(backend for backend, _ in OPENERS))
        raise UnsupportedEngineError(
            f"the engine was built for target {target.backend!r} with plugins {target.plugins!r}; "
            f"this runtime executes {known}"
        )
    return opener
