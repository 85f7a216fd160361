"""ONNX Runtime: padded calls over a cache that the graph updates in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.backends.padding import PaddedCall, check_blocks, split_step
from qwen3_runtime.backends.session import (
    CACHE_TYPES,
    check_signature,
    first_line,
    import_onnxruntime,
    no_cache_memory,
    open_session,
    widened,
)
from qwen3_runtime.errors import EngineClosedError, StepFailedError, UnsupportedEngineError
from qwen3_runtime.step import CacheGeometry, Output

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_runtime.manifest import Manifest, ModelConfig
    from qwen3_runtime.step import Step

# Provider of a target: its name in ONNX Runtime and the device its cache lives on.
_PROVIDERS = {"cpu": ("CPUExecutionProvider", "cpu"), "cuda": ("CUDAExecutionProvider", "cuda")}


class OrtBackend:
    """Executes steps with ONNX Runtime; a `Backend`.

    The cache has one block a sequence, as long as `max_context`: keys and values of each layer are one array
    [num_blocks, kv_heads, max_context, head_dim], whose pages are used only as sequences grow. Input and output
    caches of the graph are bound to the same memory.

    The graph that a TensorRT plan was made from runs here too, on the CPU.

    Args:
        engine_dir: the engine directory, already checked.
        manifest: its manifest.
        threads: intra-op threads; None for one each physical core.
        max_sequences: blocks of the cache.
        max_context: tokens of a block.

    Raises:
        EngineError: the session cannot be opened, runs on another provider, or differs from the manifest.
    """

    def __init__(
        self, engine_dir: Path, manifest: Manifest, *, threads: int | None, max_sequences: int, max_context: int
    ) -> None:
        contract = manifest.io
        self._output = contract.output
        self._width = contract.vocab_size if contract.output == "logits" else contract.hidden_size
        # The graph that a TensorRT plan was made from: batches of ids, and caches as long as it was built for.
        self._batched = manifest.target.has_plan
        if self._batched:
            max_context = contract.max_context
        provider = "cpu" if self._batched else manifest.target.provider
        if provider not in _PROVIDERS:
            raise UnsupportedEngineError(
                f"the engine is for provider {provider!r}; this backend has {', '.join(_PROVIDERS)}"
            )
        self._provider, self._device = _PROVIDERS[provider]
        self._session: Any = open_session(
            engine_dir / "model.onnx",
            self._provider,
            threads,
            as_written=self._batched,
            rounded_inputs=manifest.target.activation_quantization == "int8",
        )
        _check_session(self._session, contract)
        element, _, dtype = CACHE_TYPES[contract.cache_dtype]
        self._element = element
        self._block_shape = (contract.kv_heads, max_context, contract.head_dim)
        shape = (max_sequences, *self._block_shape)
        self._block_bytes = int(np.prod(self._block_shape)) * np.dtype(dtype).itemsize
        self._layers = [f"{layer}.{part}" for layer in range(contract.layers) for part in ("key", "value")]
        self._memory = {name: _allocate(shape, dtype, self._device) for name in self._layers}
        self._filled: NDArray[np.int32] = np.zeros(max_sequences, np.int32)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._geometry = CacheGeometry(
            num_blocks=max_sequences,
            block_size=max_context,
            bytes_per_token=len(self._layers) * self._block_bytes // max_context,
        )

    @property
    def cache(self) -> CacheGeometry:
        """One block a sequence."""
        return self._geometry

    def run(self, step: Step) -> Output:
        """Run one step; see `Backend.run`. The output is without `top`: these operators give all logits.

        Raises:
            EngineError: a sequence has more than one block or outgrows it, or ONNX Runtime failed.
        """
        if self._session is None:
            raise EngineClosedError("the backend is closed")
        ends = step.context_len + np.diff(step.query_start)
        check_blocks(step, ends, self._geometry)
        results = np.empty((len(step.logits_rows), self._width), np.float32)
        for call in split_step(step, self._filled, self._geometry.block_size):
            output = self._call(call)
            if len(call.results) == len(results) and np.array_equal(call.results, np.arange(len(results))):
                results = output[: len(results)]
            else:
                results[call.results] = output[: len(call.results)]
        self._filled[step.block_table[:, 0]] = ends
        return Output(results)

    def stored_keys(self, layer: int, block: int, slot: int) -> NDArray[np.float32] | None:
        """The keys of one token; see `Backend.stored_keys`."""
        keys = self._memory[f"{layer}.key"]
        return widened(keys[block, :, slot]) if isinstance(keys, np.ndarray) else None

    def close(self) -> None:
        """Free the session and the cache."""
        self._bindings.clear()
        self._memory.clear()
        self._session = None

    def _call(self, call: PaddedCall) -> NDArray[np.float32]:
        binding = self._binding(call.first_block, len(call.query_len))
        output = np.empty((len(call.logits_rows), self._width), np.float32)
        shape = (len(call.query_len), -1) if self._batched else (-1,)
        try:
            binding.bind_cpu_input("input_ids", call.input_ids.reshape(shape))
            for name in ("query_len", "context_len", "logits_rows"):
                binding.bind_cpu_input(name, getattr(call, name))
            binding.bind_output(self._output, "cpu", 0, np.float32, output.shape, output.ctypes.data)
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise StepFailedError(f"ONNX Runtime failed in a step: {first_line(error)}") from error
        return output

    def _binding(self, first_block: int, blocks: int) -> Any:  # noqa: ANN401 - onnxruntime has no types
        """The binding of a range of blocks, with its caches bound once and for all."""
        found = self._bindings.get((first_block, blocks))
        if found is not None:
            return found
        binding = self._session.io_binding()
        shape = (blocks, *self._block_shape)
        for name in self._layers:
            address = _address(self._memory[name]) + first_block * self._block_bytes
            binding.bind_input(f"kv.{name}", self._device, 0, self._element, shape, address)
            binding.bind_output(f"kv_out.{name}", self._device, 0, self._element, shape, address)
        self._bindings[first_block, blocks] = binding
        return binding


def _check_session(session: Any, contract: ModelConfig) -> None:  # noqa: ANN401 - onnxruntime has no types
    """Hold the graph to the manifest."""
    _, cache_type, _ = CACHE_TYPES[contract.cache_dtype]
    step = {"input_ids": "tensor(int64)", "query_len": "tensor(int32)", "context_len": "tensor(int32)"}
    inputs = {**step, "logits_rows": "tensor(int64)"}
    outputs: dict[str, str] = {contract.output: "tensor(float)"}
    caches = [f"{layer}.{part}" for layer in range(contract.layers) for part in ("key", "value")]
    inputs.update({f"kv.{name}": cache_type for name in caches})
    outputs.update({f"kv_out.{name}": cache_type for name in caches})
    width = contract.vocab_size if contract.output == "logits" else contract.hidden_size
    widths: dict[str, dict[int, int]] = {contract.output: {-1: width}}
    widths.update({f"kv.{name}": {1: contract.kv_heads, 3: contract.head_dim} for name in caches})
    check_signature(session, inputs, outputs, widths)


def _allocate(shape: tuple[int, ...], dtype: Any, device: str) -> Any:  # noqa: ANN401 - numpy array or OrtValue
    try:
        zeros = np.zeros(shape, dtype)  # mapped lazily: a page is used when a token is written to it
    except MemoryError:
        raise no_cache_memory(shape) from None
    if device == "cpu":
        return zeros
    try:
        return import_onnxruntime().OrtValue.ortvalue_from_numpy(zeros, device, 0)
    except Exception as error:
        raise no_cache_memory(shape) from error


def _address(memory: Any) -> int:  # noqa: ANN401 - numpy array or OrtValue
    return int(memory.ctypes.data if isinstance(memory, np.ndarray) else memory.data_ptr())
