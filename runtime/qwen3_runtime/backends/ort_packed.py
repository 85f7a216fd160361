"""ONNX Runtime on the CPU for the packed graph of a TensorRT engine with our attention plugin: slow, for validation."""

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
    widened,
)
from qwen3_runtime.cache import blocks_for
from qwen3_runtime.errors import DamagedEngineError, EngineClosedError, StepFailedError
from qwen3_runtime.step import CacheGeometry, Output

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_runtime.manifest import Manifest, ModelConfig
    from qwen3_runtime.step import Step


class OrtPackedBackend:
    """Executes packed steps with the functions that the graph brings for the plugins' nodes; a `Backend`.

    The cache of a layer is one array [num_blocks, 2, kv_heads, block, head_dim], input and output at one address. The
    functions rewrite it whole in every step.

    Args:
        engine_dir: the engine directory, already checked.
        manifest: its manifest.
        threads: intra-op threads; None for one each physical core.
        max_sequences: sequences that the cache has room for.
        max_context: tokens of each.

    Raises:
        EngineError: the graph cannot be opened, or differs from the manifest.
    """

    def __init__(
        self, engine_dir: Path, manifest: Manifest, *, threads: int | None, max_sequences: int, max_context: int
    ) -> None:
        contract = manifest.io
        self._output = contract.output
        self._width = contract.vocab_size if contract.output == "logits" else contract.hidden_size
        model = engine_dir / "model.onnx"
        self._session: Any = open_session(model, "CPUExecutionProvider", threads, as_written=True)
        _check_session(self._session, contract)
        block = next(value.shape[3] for value in self._session.get_inputs() if value.name == "kv.0")
        if not isinstance(block, int):
            raise DamagedEngineError("model.onnx: its cache blocks have no fixed length; build the engine again")
        blocks = max_sequences * blocks_for(max_context, block)
        shape = (blocks, 2, contract.kv_heads, block, contract.head_dim)
        element, _, dtype = CACHE_TYPES[contract.cache_dtype]
        try:
            self._cache = [np.zeros(shape, dtype) for _ in range(contract.layers)]
        except MemoryError:
            raise no_cache_memory(shape) from None
        self._binding: Any = self._session.io_binding()
        for layer, array in enumerate(self._cache):
            self._binding.bind_input(f"kv.{layer}", "cpu", 0, element, shape, array.ctypes.data)
            self._binding.bind_output(f"kv_out.{layer}", "cpu", 0, element, shape, array.ctypes.data)
        size = sum(array.nbytes for array in self._cache)
        self._geometry = CacheGeometry(num_blocks=blocks, block_size=block, bytes_per_token=size // (blocks * block))

    @property
    def cache(self) -> CacheGeometry:
        """A pool of blocks, any of which any sequence may hold."""
        return self._geometry

    def run(self, step: Step) -> Output:
        """Run one step; see `Backend.run`. The output is without `top`: the graph gives all logits.

        Raises:
            EngineError: ONNX Runtime failed.
        """
        if self._session is None:
            raise EngineClosedError("the backend is closed")
        inputs: dict[str, NDArray[Any]] = {
            name: np.ascontiguousarray(getattr(step, name), dtype) for name, (_, dtype) in PACKED_INPUTS.items()
        }
        output = np.empty((len(step.logits_rows), self._width), np.float32)
        try:
            for name, array in inputs.items():
                self._binding.bind_cpu_input(name, array)
            self._binding.bind_output(self._output, "cpu", 0, np.float32, output.shape, output.ctypes.data)
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise StepFailedError(f"ONNX Runtime failed in a step: {first_line(error)}") from error
        return Output(output)

    def stored_keys(self, layer: int, block: int, slot: int) -> NDArray[np.float32]:
        """The keys of one token; see `Backend.stored_keys`."""
        return widened(self._cache[layer][block, 0, :, slot])

    def close(self) -> None:
        """Free the session and the cache."""
        self._binding = self._session = None
        self._cache.clear()


def _check_session(session: Any, contract: ModelConfig) -> None:  # noqa: ANN401 - onnxruntime has no types
    """Hold the graph to the manifest."""
    kind = CACHE_TYPES[contract.cache_dtype][1]
    caches = [str(layer) for layer in range(contract.layers)]
    inputs = {name: kind for name, (kind, _) in PACKED_INPUTS.items()} | {f"kv.{name}": kind for name in caches}
    outputs = {contract.output: "tensor(float)"} | {f"kv_out.{name}": kind for name in caches}
    width = contract.vocab_size if contract.output == "logits" else contract.hidden_size
    widths: dict[str, dict[int, int]] = {contract.output: {-1: width}}
    widths |= {f"kv.{name}": {1: 2, 2: contract.kv_heads, 4: contract.head_dim} for name in caches}
    check_signature(session, inputs, outputs, widths)
