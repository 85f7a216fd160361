"""TensorRT's own attention: padded calls over caches that the plan updates in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_graphs import interface
from qwen3_runtime.backends.elements import step_model
from qwen3_runtime.backends.padding import check_blocks, split_step
from qwen3_runtime.backends.tensorrt.plan_backend import PlanBackend
from qwen3_runtime.backends.tensorrt.plan_runner import ALIGNMENT, Caches
from qwen3_runtime.backends.tensorrt.signature import check_aliases
from qwen3_runtime.errors import UnsupportedEngineError
from qwen3_runtime.step import CacheGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_plugins.tensorrt.bindings.device import Device
    from qwen3_runtime.backends.padding import PaddedCall
    from qwen3_runtime.backends.tensorrt.opened_plan import Plan
    from qwen3_runtime.backends.tensorrt.plan_runner import PlanRunner
    from qwen3_runtime.manifest import ModelConfig
    from qwen3_runtime.step import Step


class PaddedPlanBackend(PlanBackend):
    """Executes steps of an engine with TensorRT's own attention; a `Backend`.

    The cache has one block a sequence. Its length is fixed in the plan, so a block is as long as the engine's own
    `max_context`. Keys and values of a layer are one array [num_blocks, kv_heads, max_context, head_dim]; a call uses
    a range of neighboring blocks, in and out at one address.

    Args:
        device: where it runs; closed with the backend.
        plan: the engine's plan; likewise.
        model: from the manifest.
        max_sequences: blocks of the cache.
        graphs: whether decode calls are recorded as CUDA graphs.

    Raises:
        EngineError: the plan differs from the manifest, or caches of this size cannot be aligned.
        BindingsError: the cache does not fit into the GPU's memory.
    """

    def __init__(
        self, device: Device, plan: Plan, model: ModelConfig, *, max_sequences: int, graphs: bool = True
    ) -> None:
        super().__init__(device, plan, interface.padded_batch(step_model(model), model.max_context), graphs=graphs)
        check_aliases(self._interface, self._tensors)
        self._block_shape = (model.kv_heads, model.max_context, model.head_dim)
        self._block_bytes = int(np.prod(self._block_shape)) * self._element_bytes
        if max_sequences > 1 and self._block_bytes % ALIGNMENT:
            raise UnsupportedEngineError(
                f"a sequence's cache is {self._block_bytes} bytes per layer, TensorRT needs multiples of {ALIGNMENT}: "
                "build the engine with a max_context that is a multiple of 16"
            )
        shape = (max_sequences, *self._block_shape)
        self._memory = {each.name: self._allocate_cache(shape, max_sequences) for each in self._interface.caches}
        self._caches: dict[tuple[int, int], Caches] = {}
        self._filled: NDArray[np.int32] = np.zeros(max_sequences, np.int32)
        self._geometry = CacheGeometry(
            num_blocks=max_sequences,
            block_size=model.max_context,
            bytes_per_token=len(self._memory) * self._block_bytes // model.max_context,
        )

    def _run(self, runner: PlanRunner, step: Step) -> NDArray[np.float32]:
        ends = step.context_len + np.diff(step.query_start)
        check_blocks(step, ends, self._geometry)
        calls = split_step(step, self._filled, self._geometry.block_size, self._interface.fed)
        most = runner.max_rows
        launches = [
            (call, call.rows[first : first + most], call.results[first : first + most])
            for call in calls
            for first in range(0, len(call.rows), most)
        ]
        wanted = np.arange(len(step.logits_rows))
        results = np.empty((len(wanted), self._width), np.float32)
        for call, rows, places in launches:
            output = self._call(runner, call, rows)[: len(places)]
            if len(launches) == 1 and np.array_equal(places, wanted):
                results = output  # the next launch would overwrite it
            else:
                results[places] = output
        self._filled[step.block_table[:, 0]] = ends
        return results

    def _call(self, runner: PlanRunner, call: PaddedCall, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        # Decode calls ask for every row, wanted or not, so that a batch has one shape and one CUDA graph.
        every = np.arange(call.batch) if call.length == 1 else rows
        output = runner.run(call.asking(every).inputs, self._caches_of(call.first_block, call.batch), len(every))
        return output if np.array_equal(rows, every) else output[rows]

    def _caches_of(self, first_block: int, blocks: int) -> Caches:
        """The caches of a range of blocks, one object for each range."""
        found = self._caches.get((first_block, blocks))
        if found is None:
            shape = (blocks, *self._block_shape)
            addresses = {name: base + first_block * self._block_bytes for name, base in self._memory.items()}
            written = {output.name: addresses[name] for name, output in self._interface.written.items()}
            found = self._caches[first_block, blocks] = Caches(
                shapes=dict.fromkeys(addresses, shape),
                addresses={**addresses, **written},
                sizes={"B": blocks},
            )
        return found
