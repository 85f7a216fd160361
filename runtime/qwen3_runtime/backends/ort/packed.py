"""ONNX Runtime on the CPU: packed steps, as they come, over a paged cache.

The graph writes the cache in place (our operators, see `packed_plugins`) or gives it as outputs, which are bound to the
same memory: so does the graph that a TensorRT plan with our attention plugin was built from, whose functions rewrite
the cache whole in every step. That is slow, and for validation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_graphs import interface
from qwen3_runtime.backends.elements import ELEMENTS, step_model, widened
from qwen3_runtime.backends.filling import CONSTANTS, PACKED, fill
from qwen3_runtime.backends.ort.session import no_cache_memory, open_session
from qwen3_runtime.backends.ort.session_backend import SessionBackend, failures_reported
from qwen3_runtime.engine_files import MODEL
from qwen3_runtime.errors import DamagedEngineError
from qwen3_runtime.step import CacheGeometry, Output, Top

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from qwen3_graphs.interface import StepInterface
    from qwen3_runtime.backends import Sizes
    from qwen3_runtime.manifest import Manifest, ModelConfig
    from qwen3_runtime.step import Step


def open_backend(engine_dir: Path, manifest: Manifest, sizes: Sizes) -> PackedSessionBackend:
    """Open the graph that a TensorRT plan was built from; see `qwen3_runtime.backends.open_backend`."""
    session = open_session(engine_dir / MODEL, "CPUExecutionProvider", sizes.threads, as_written=True)
    block = next((value.shape[3:4] for value in session.get_inputs() if value.name == "kv.0"), [None])[0]
    if not isinstance(block, int):
        raise DamagedEngineError("model.onnx: its cache blocks have no fixed length; build the engine again")
    return PackedSessionBackend(session, interface.packed(step_model(manifest.io), block), manifest.io, sizes, block)


class PackedSessionBackend(SessionBackend):
    """Executes packed steps; a `Backend`.

    The cache of a layer is one array [num_blocks, 2, kv_heads, block, head_dim], whose pages are used only as
    sequences grow; an int8 cache has an array of scales beside it. They are bound once. The inputs of a step are
    copied into memory that stays bound while steps have the same shapes, as they have while sequences decode.

    Args:
        session: an open session.
        declared: its inputs and outputs, by the manifest.
        model: from the manifest.
        sizes: sequences that the cache has room for, and tokens of each.
        block: tokens of a cache block.

    Raises:
        DamagedEngineError: the graph differs from the manifest.
        UnsupportedEngineError: there is no memory for the cache.
    """

    def __init__(
        self,
        session: Any,  # noqa: ANN401 - onnxruntime has no types
        declared: StepInterface,
        model: ModelConfig,
        sizes: Sizes,
        block: int,
    ) -> None:
        super().__init__(session, declared)
        one = {each.name: _sized(each.shape, {"blocks": 1, "block": block}) for each in declared.caches}
        each_block = sum(
            math.prod(one[each.name]) * np.dtype(ELEMENTS[each.element].dtype).itemsize for each in declared.caches
        )
        blocks = sizes.blocks(block, each_block)
        self._cache = _allocate(declared, {"blocks": blocks, "block": block})
        self._geometry = CacheGeometry(num_blocks=blocks, block_size=block, bytes_per_token=each_block // block)
        self._binding: Any = session.io_binding()
        self._elements = {each.name: ELEMENTS[each.element].number for each in (*declared.inputs, *declared.outputs)}
        for name, array in self._cache.items():
            self._bind_input(name, array)
        self._bind_written()
        self._inputs: dict[str, NDArray[Any]] = {}
        self._results: dict[str, NDArray[Any]] = {}
        for name, array in fill(declared.constants, CONSTANTS, model).items():
            self._feed(name, array)

    def _run(self, step: Step) -> Output:
        for name, array in fill(self._interface.fed, PACKED, step).items():
            self._feed(name, array)
        with failures_reported():
            self._bind_results(step)
            self._session.run_with_iobinding(self._binding)
        values, *largest = self._results.values()
        return Output(values, Top(*largest) if largest else None)

    def stored_keys(self, layer: int, block: int, slot: int) -> NDArray[np.float32]:
        """The keys of one token; see `Backend.stored_keys`."""
        keys = widened(self._cache[f"kv.{layer}"][block, 0, :, slot])
        scales = self._cache.get(f"kv_scales.{layer}")
        return keys if scales is None else keys * scales[block, 0, :, slot, None]

    def close(self) -> None:
        """Free the session and the cache."""
        super().close()
        self._binding = None
        self._cache.clear()
        self._inputs.clear()
        self._results.clear()

    def _bind_results(self, step: Step) -> None:
        """Bind memory that the step will write its results to; what is not bound is not fetched."""
        rows = len(step.logits_rows)
        sizes = {"R": rows, "top_k": step.top_k, "summed": rows}
        wanted = self._interface.results if step.top_k else self._interface.results[:1]
        shapes = {each.name: _sized(each.shape, sizes) for each in wanted}
        # Binding costs as much as sampling, and new memory is given page by page: decoding needs neither.
        if {name: array.shape for name, array in self._results.items()} == shapes:
            return
        self._binding.clear_binding_outputs()
        self._bind_written()
        self._results = {each.name: np.empty(shapes[each.name], ELEMENTS[each.element].dtype) for each in wanted}
        for name, array in self._results.items():
            self._bind_output(name, array)

    def _bind_written(self) -> None:
        """Bind outputs that are caches to the memory of their inputs."""
        for name, output in self._interface.written.items():
            self._bind_output(output.name, self._cache[name])

    def _feed(self, name: str, values: NDArray[Any]) -> None:
        held = self._inputs.get(name)
        if held is None or held.shape != values.shape:
            held = self._inputs[name] = np.empty_like(values, order="C", subok=False)
            self._bind_input(name, held)
        held[...] = values

    def _bind_input(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_input(name, "cpu", 0, self._elements[name], array.shape, array.ctypes.data)

    def _bind_output(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_output(name, "cpu", 0, self._elements[name], array.shape, array.ctypes.data)


def _allocate(declared: StepInterface, sizes: dict[str, int]) -> dict[str, NDArray[Any]]:
    """The caches by the name of the graph's input; mapped lazily: a page is used when a token is written to it."""
    shapes = {each.name: _sized(each.shape, sizes) for each in declared.caches}
    try:
        return {each.name: np.zeros(shapes[each.name], ELEMENTS[each.element].dtype) for each in declared.caches}
    except MemoryError:
        raise no_cache_memory(shapes["kv.0"]) from None


def _sized(shape: tuple[int | str, ...], sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)
