"""ONNX Runtime with our operators: packed steps, as they come, over a paged cache that is written in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.backends.session import (
    CACHE_TYPES,
    PACKED_INPUTS,
    check_signature,
    first_line,
    no_cache_memory,
    open_session,
)
from qwen3_runtime.cache import blocks_for
from qwen3_runtime.errors import EngineClosedError, StepFailedError, UnsupportedEngineError
from qwen3_runtime.step import CacheGeometry, Output, Top

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_runtime.manifest import Manifest, ModelConfig
    from qwen3_runtime.step import Step

BLOCK_SIZE = 64
"""Tokens of a cache block: long enough to be read in sequence, short enough to waste little of a short answer."""

# Of a head: numbers that it is given, and what it gives beside the logits.
_HEAD_INPUTS = {"live_vocab": "tensor(int32)", "top_k": "tensor(int32)"}
_HEAD_OUTPUTS = {"top_values": "tensor(float)", "top_ids": "tensor(int32)", "log_sum_exp": "tensor(float)"}


class OrtCpuBackend:
    """Executes steps with the operators of `qwen3_plugins.ort`; a `Backend`.

    The cache of a layer is one array [num_blocks, 2, kv_heads, block, head_dim], whose pages are used only as
    sequences grow; an int8 cache has an array of scales beside it. They are bound once. The inputs of a step are
    copied into memory that stays bound while steps have the same shapes, as they have while sequences decode.

    Args:
        engine_dir: the engine directory, already checked.
        manifest: its manifest.
        threads: intra-op threads; None for one each physical core.
        max_sequences: sequences that the cache has room for.
        max_context: tokens of each.

    Raises:
        EngineError: the operator library is missing, or the graph cannot be opened or differs from the manifest.
    """

    def __init__(
        self, engine_dir: Path, manifest: Manifest, *, threads: int | None, max_sequences: int, max_context: int
    ) -> None:
        contract = manifest.io
        if manifest.target.provider != "cpu":
            raise UnsupportedEngineError(
                f"the engine is for provider {manifest.target.provider!r}; this backend has cpu"
            )
        if contract.cache_dtype not in ("float16", "int8"):
            raise UnsupportedEngineError(
                f"the engine's cache is {contract.cache_dtype}; this backend has float16 and int8"
            )
        self._output = contract.output
        self._has_head = contract.output == "logits"
        self._width = contract.vocab_size if self._has_head else contract.hidden_size
        self._session: Any = open_session(engine_dir / "model.onnx", "CPUExecutionProvider", threads, _library())
        _check_session(self._session, contract)
        blocks = max_sequences * blocks_for(max_context, BLOCK_SIZE)
        self._cache = _allocate(contract, blocks)
        self._geometry = CacheGeometry(
            num_blocks=blocks,
            block_size=BLOCK_SIZE,
            bytes_per_token=sum(array.nbytes for array in self._cache.values()) // (blocks * BLOCK_SIZE),
        )
        self._binding: Any = self._session.io_binding()
        for name, array in self._cache.items():
            self._bind(name, array)
        self._inputs: dict[str, NDArray[Any]] = {}
        self._results: dict[str, NDArray[Any]] = {}
        if self._has_head:
            self._feed("live_vocab", np.array(contract.tokenizer_vocab_size, np.int32))
        self._closed = False

    @property
    def cache(self) -> CacheGeometry:
        """A pool of blocks, any of which any sequence may hold."""
        return self._geometry

    def run(self, step: Step) -> Output:
        """Run one step; see `Backend.run`.

        Raises:
            EngineError: the step does not hold together (the operators look), or ONNX Runtime failed.
        """
        if self._closed:
            raise EngineClosedError("the backend is closed")
        for name, (_, dtype) in PACKED_INPUTS.items():
            self._feed(name, np.asarray(getattr(step, name), dtype))
        if self._has_head:
            self._feed("top_k", np.array(step.top_k, np.int32))
        try:
            output = self._bound_output(len(step.logits_rows), step.top_k)
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise StepFailedError(f"ONNX Runtime failed in a step: {first_line(error)}") from error
        return output

    def stored_keys(self, layer: int, block: int, slot: int) -> NDArray[np.float32]:
        """The keys of one token; see `Backend.stored_keys`."""
        keys: NDArray[np.float32] = self._cache[f"kv.{layer}"][block, 0, :, slot].astype(np.float32)
        scales = self._cache.get(f"kv_scales.{layer}")
        return keys if scales is None else keys * scales[block, 0, :, slot, None]

    def close(self) -> None:
        """Free the session and the cache."""
        self._closed = True
        self._binding = self._session = None
        self._cache.clear()
        self._inputs.clear()
        self._results.clear()

    def _bound_output(self, rows: int, top_k: int) -> Output:
        """Memory that the step will write to; what is not bound is not fetched."""
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {self._output: ((rows, self._width), np.float32)}
        if self._has_head and top_k:
            shapes["top_values"] = ((rows, top_k), np.float32)
            shapes["top_ids"] = ((rows, top_k), np.int32)
            shapes["log_sum_exp"] = ((rows,), np.float32)
        # Binding costs as much as sampling, and new memory is given page by page: decoding needs neither.
        if {name: array.shape for name, array in self._results.items()} != {name: s for name, (s, _) in shapes.items()}:
            self._binding.clear_binding_outputs()
            self._results = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
            for name, array in self._results.items():
                self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        values, *top = self._results.values()
        return Output(values, Top(*top) if top else None)

    def _feed(self, name: str, values: NDArray[Any]) -> None:
        held = self._inputs.get(name)
        if held is None or held.shape != values.shape:
            held = self._inputs[name] = np.empty_like(values, order="C", subok=False)
            self._bind(name, held)
        held[...] = values

    def _bind(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _library() -> Path:
    """The operator library.

    Raises:
        EngineError: it was not built here.
    """
    from qwen3_plugins.ort import library_path, why_missing

    path = library_path()
    if path is None:
        raise UnsupportedEngineError(why_missing())
    return path


def _check_session(session: Any, contract: ModelConfig) -> None:  # noqa: ANN401 - onnxruntime has no types
    """Hold the graph to the manifest."""
    inputs = {name: kind for name, (kind, _) in PACKED_INPUTS.items()}
    outputs: dict[str, str] = {contract.output: "tensor(float)"}
    if contract.output == "logits":
        inputs |= _HEAD_INPUTS
        outputs |= _HEAD_OUTPUTS
    width = contract.vocab_size if contract.output == "logits" else contract.hidden_size
    widths: dict[str, dict[int, int]] = {contract.output: {-1: width}}
    for layer in range(contract.layers):
        inputs[f"kv.{layer}"] = CACHE_TYPES[contract.cache_dtype][1]
        widths[f"kv.{layer}"] = {1: 2, 2: contract.kv_heads, 4: contract.head_dim}
        if contract.cache_dtype == "int8":
            inputs[f"kv_scales.{layer}"] = "tensor(float)"
            widths[f"kv_scales.{layer}"] = {1: 2, 2: contract.kv_heads}
    check_signature(session, inputs, outputs, widths)


def _allocate(contract: ModelConfig, blocks: int) -> dict[str, NDArray[Any]]:
    """The caches by the name of the graph's input; mapped lazily: a page is used when a token is written to it."""
    rows = (blocks, 2, contract.kv_heads, BLOCK_SIZE)
    arrays: dict[str, NDArray[Any]] = {}
    try:
        for layer in range(contract.layers):
            arrays[f"kv.{layer}"] = np.zeros((*rows, contract.head_dim), CACHE_TYPES[contract.cache_dtype][2])
            if contract.cache_dtype == "int8":
                arrays[f"kv_scales.{layer}"] = np.zeros(rows, np.float32)
    except MemoryError:
        raise no_cache_memory((*rows, contract.head_dim)) from None
    return arrays
