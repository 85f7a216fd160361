"""ONNX Runtime's own operators: padded calls over a cache that the graph updates in place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_graphs import interface
from qwen3_runtime.backends.elements import ELEMENTS, step_model, widened
from qwen3_runtime.backends.ort.session import import_onnxruntime, no_cache_memory, open_session
from qwen3_runtime.backends.ort.session_backend import SessionBackend, failures_reported
from qwen3_runtime.backends.padding import check_blocks, split_step
from qwen3_runtime.engine_files import MODEL
from qwen3_runtime.errors import UnsupportedEngineError
from qwen3_runtime.step import CacheGeometry, Output

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_graphs.interface import StepInterface
    from qwen3_runtime.backends import Sizes
    from qwen3_runtime.backends.padding import PaddedCall
    from qwen3_runtime.manifest import Manifest, ModelConfig
    from qwen3_runtime.step import Step

# Provider of a target: its name in ONNX Runtime and the device its cache lives on.
_PROVIDERS = {"cpu": ("CPUExecutionProvider", "cpu"), "cuda": ("CUDAExecutionProvider", "cuda")}


def open_backend(engine_dir: Path, manifest: Manifest, sizes: Sizes) -> PaddedSessionBackend:
    """Open an engine of standard or ONNX Runtime's own operators, or, on the CPU, the graph of a TensorRT plan.

    See `qwen3_runtime.backends.open_backend`.

    Raises:
        UnsupportedEngineError: the session cannot be opened, or runs on another provider.
    """
    model, target = manifest.io, manifest.target
    provider = "cpu" if target.has_plan else target.provider
    if provider not in _PROVIDERS:
        raise UnsupportedEngineError(
            f"the engine is for provider {provider!r}; this backend has {', '.join(_PROVIDERS)}"
        )
    name, device = _PROVIDERS[provider]
    session = open_session(
        engine_dir / MODEL,
        name,
        sizes.threads,
        as_written=target.has_plan,
        quantized_activations=target.activation_quantization == "int8",
    )
    if target.has_plan:  # its caches are as long as it was built for
        sizes = replace(sizes, max_context=model.max_context)
        declared = interface.padded_batch(step_model(model), model.max_context)
    else:
        declared = interface.padded(step_model(model))
    context = sizes.max_context
    values = len(declared.caches) * model.kv_heads * context * model.head_dim
    size = values * np.dtype(ELEMENTS[declared.caches[0].element].dtype).itemsize
    blocks = sizes.blocks(context, size) if device == "cpu" else sizes.max_sequences
    return PaddedSessionBackend(session, declared, model, blocks, context, device)


class PaddedSessionBackend(SessionBackend):
    """Executes padded calls; a `Backend`.

    The cache has one block a sequence, as long as `max_context`: keys and values of each layer are one array
    [num_blocks, kv_heads, max_context, head_dim], whose pages are used only as sequences grow. Input and output
    caches of the graph are bound to the same memory.

    Args:
        session: an open session.
        declared: its inputs and outputs, by the manifest.
        model: from the manifest.
        num_blocks: blocks of the cache, each for one sequence.
        max_context: tokens of a block.
        device: where the cache lives, as ONNX Runtime calls it.

    Raises:
        DamagedEngineError: the graph differs from the manifest.
        UnsupportedEngineError: there is no memory for the cache.
    """

    def __init__(
        self,
        session: Any,  # noqa: ANN401 - onnxruntime has no types
        declared: StepInterface,
        model: ModelConfig,
        num_blocks: int,
        max_context: int,
        device: str,
    ) -> None:
        super().__init__(session, declared)
        self._device = device
        self._element = ELEMENTS[declared.caches[0].element]
        self._block_shape = (model.kv_heads, max_context, model.head_dim)
        shape = (num_blocks, *self._block_shape)
        self._block_bytes = int(np.prod(self._block_shape)) * np.dtype(self._element.dtype).itemsize
        self._memory = {each.name: _allocate(shape, self._element.dtype, device) for each in declared.caches}
        self._filled: NDArray[np.int32] = np.zeros(num_blocks, np.int32)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._geometry = CacheGeometry(
            num_blocks=num_blocks,
            block_size=max_context,
            bytes_per_token=len(self._memory) * self._block_bytes // max_context,
        )

    def _run(self, step: Step) -> Output:
        ends = step.context_len + np.diff(step.query_start)
        check_blocks(step, ends, self._geometry)
        results = np.empty((len(step.logits_rows), self._interface.width), np.float32)
        for call in split_step(step, self._filled, self._geometry.block_size, self._interface.fed):
            output = self._call(call)
            if len(call.results) == len(results) and np.array_equal(call.results, np.arange(len(results))):
                results = output[: len(results)]
            else:
                results[call.results] = output[: len(call.results)]
        self._filled[step.block_table[:, 0]] = ends
        return Output(results)

    def stored_keys(self, layer: int, block: int, slot: int) -> NDArray[np.float32] | None:
        """The keys of one token; see `Backend.stored_keys`."""
        keys = self._memory[f"kv.{layer}.key"]
        return widened(keys[block, :, slot]) if isinstance(keys, np.ndarray) else None

    def close(self) -> None:
        """Free the session and the cache."""
        super().close()
        self._bindings.clear()
        self._memory.clear()

    def _call(self, call: PaddedCall) -> NDArray[np.float32]:
        binding = self._binding(call.first_block, call.batch)
        output = np.empty((len(call.rows), self._interface.width), np.float32)
        with failures_reported():
            for each in self._interface.fed:
                array = call.inputs[each.name]
                binding.bind_cpu_input(each.name, array if each.shape[0] != "B*S" else _flat(array))
            binding.bind_output(self._interface.result.name, "cpu", 0, np.float32, output.shape, output.ctypes.data)
            self._session.run_with_iobinding(binding)
        return output

    def _binding(self, first_block: int, blocks: int) -> Any:  # noqa: ANN401 - onnxruntime has no types
        """The binding of a range of blocks, with its caches bound once and for all."""
        found = self._bindings.get((first_block, blocks))
        if found is not None:
            return found
        binding = self._session.io_binding()
        shape, element = (blocks, *self._block_shape), self._element.number
        for name, output in self._interface.written.items():
            address = _address(self._memory[name]) + first_block * self._block_bytes
            binding.bind_input(name, self._device, 0, element, shape, address)
            binding.bind_output(output.name, self._device, 0, element, shape, address)
        self._bindings[first_block, blocks] = binding
        return binding


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """[B, S, ...] as rows [B*S, ...]."""
    return array.reshape(-1, *array.shape[2:])


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
