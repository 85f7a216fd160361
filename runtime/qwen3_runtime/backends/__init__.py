"""Backends: what executes the steps of an engine, chosen by the target that the engine was built for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from qwen3_runtime.backends.memory import available_memory
from qwen3_runtime.backends.positions import check_positions
from qwen3_runtime.cache import blocks_for
from qwen3_runtime.engine_files import MODEL
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
        cache_memory: bytes of the KV cache; None for `CACHE_SHARE` of what is free.
    """

    max_sequences: int
    max_context: int
    threads: int | None = None
    cache_memory: int | None = None

    def blocks(self, block_size: int, bytes_per_block: int) -> int:
        """Cache blocks in the memory of the CPU: enough for every sequence at its longest, or as many as fit.

        By default there are enough for the longest sequence, whatever is free: a page is used when a token is written.

        Args:
            block_size: tokens of a block.
            bytes_per_block: over all layers.

        Raises:
            RequestError: not a single block fits.
        """
        most = self.max_sequences * blocks_for(self.max_context, block_size)
        if self.cache_memory is None:
            free = available_memory()
            fitting = most if free is None else int(free * CACHE_SHARE) // bytes_per_block
            return min(most, max(fitting, blocks_for(self.max_context, block_size)))
        if self.cache_memory < bytes_per_block:
            problem = f"expected at least {bytes_per_block}, the bytes of one cache block, found {self.cache_memory}"
            raise RequestError.at("cache_memory", problem)
        return min(most, self.cache_memory // bytes_per_block)


@dataclass(frozen=True)
class Opener:
    """Who opens the engines of a kind of target: modules with a function `open_backend(engine_dir, manifest, sizes)`.

    Attributes:
        module: imported where such an engine is opened, and with it what the backend needs.
        on_cpu: the module that executes the graph of a plan on the CPU instead; None where there is no plan.
    """

    module: str
    on_cpu: str | None = None


CACHE_SHARE = 0.5
"""Of the memory that is free when an engine is opened: what its KV cache may grow to by default."""

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
    cache_memory: int | None = None,
    on_cpu: bool = False,
) -> Backend:
    """Open the backend of an engine whose directory was checked.

    Args:
        engine_dir: the engine directory.
        manifest: its manifest.
        threads: of the provider; None for one for each physical core.
        max_sequences: sequences that the cache holds.
        max_context: tokens that a sequence may hold.
        cache_memory: bytes of the KV cache; None for a share of what is free, see `CACHE_SHARE`.
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
    check_positions(engine_dir / MODEL, manifest.io.max_context)
    if cache_memory is not None and manifest.target.provider != "cpu" and not on_cpu:
        problem = f"only a cache in the CPU's memory has a size of its own, this one is on {manifest.target.provider}"
        raise RequestError.at("cache_memory", problem)
    module = import_module((on_cpu and opener.on_cpu) or opener.module)
    sizes = Sizes(max_sequences, max_context, threads, cache_memory)
    backend: Backend = module.open_backend(engine_dir, manifest, sizes)
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
