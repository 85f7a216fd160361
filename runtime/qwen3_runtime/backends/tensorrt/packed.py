"""Our attention plugin: packed steps, as they come, over a pool of cache blocks that the plan writes in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.backends.tensorrt.launch import Caches, Launcher
from qwen3_runtime.backends.tensorrt.signature import check_signature, packed_slots, read_profiles, width
from qwen3_runtime.cache import blocks_for
from qwen3_runtime.errors import DamagedEngineError, EngineClosedError, RequestError, StepFailedError
from qwen3_runtime.step import CacheGeometry, Output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.backends.tensorrt.device import Device
    from qwen3_runtime.backends.tensorrt.plan import Plan
    from qwen3_runtime.manifest import Contract
    from qwen3_runtime.step import Step


class PackedBackend:
    """Executes steps of an engine with `attention: plugin`; a `Backend`.

    The cache of a layer is one array [num_blocks, 2, kv_heads, block, head_dim], whose block length is fixed in the
    plan; any sequence may hold any block.

    Args:
        device: where it runs; closed with the backend.
        plan: the engine's plan; likewise.
        contract: from the manifest.
        max_sequences: sequences that the cache has room for.
        max_context: tokens of each.
        graphs: whether decode steps are recorded as CUDA graphs.

    Raises:
        EngineError: the plan differs from the manifest, or the cache does not fit into the GPU's memory.
    """

    def __init__(
        self,
        device: Device,
        plan: Plan,
        contract: Contract,
        *,
        max_sequences: int,
        max_context: int,
        graphs: bool = True,
    ) -> None:
        self._device, self._plan = device, plan
        slots, tensors = packed_slots(contract), plan.tensors()
        check_signature(slots, tensors)
        profiles = read_profiles(slots, tensors)
        block = tensors["kv.0"].shape[3]
        if block < 1:
            raise DamagedEngineError("model.plan: its cache blocks have no fixed length; build the engine again")
        blocks = max_sequences * blocks_for(max_context, block)
        most = min(profile.bounds["blocks"][1] for profile in profiles)
        if blocks > most:
            raise RequestError(
                f"{max_sequences} sequences of {max_context} tokens need {blocks} cache blocks, the engine was built "
                f"for {most}: open it with a smaller max_context or max_sequences",
                field="max_sequences",
            )
        # Every step has block tables of one width, so that a batch has one shape and one CUDA graph.
        self._table_width = blocks_for(max_context, block)
        self._width = width(contract)
        self._launcher: Launcher | None = Launcher(device, plan, slots, profiles, output=contract.output, graphs=graphs)
        shape = (blocks, 2, contract.kv_heads, block, contract.head_dim)
        size = int(np.prod(shape)) * (4 if contract.cache_dtype == "float32" else 2)
        shapes, addresses = {}, {}
        for layer in range(contract.layers):
            address = device.allocate(size, f"the cache of {max_sequences} sequences")
            device.clear(address, size)  # what was there could be NaN, and a weight of 0 times NaN is NaN
            shapes[f"kv.{layer}"] = shape
            addresses[f"kv.{layer}"] = addresses[f"kv_out.{layer}"] = address
        self._caches = Caches(shapes, addresses, sizes={"blocks": blocks, "block": block})
        self._geometry = CacheGeometry(
            num_blocks=blocks, block_size=block, bytes_per_token=contract.layers * size // (blocks * block)
        )

    @property
    def cache(self) -> CacheGeometry:
        """A pool of blocks, any of which any sequence may hold."""
        return self._geometry

    def run(self, step: Step) -> Output:
        """Run one step; see `Backend.run`. The output is without `top`: the plan gives all logits.

        A step that wants more rows than the plan gives at once runs again for the others, writing the same cache.

        Raises:
            EngineError: a sequence has more blocks than the backend was opened for, or CUDA or TensorRT failed.
        """
        if self._launcher is None:
            raise EngineClosedError("the backend is closed")
        batch, held = step.block_table.shape
        if held > self._table_width:
            raise StepFailedError(f"a sequence has {held} cache blocks, the backend was opened for {self._table_width}")
        table = np.full((batch, self._table_width), -1, np.int32)
        table[:, :held] = step.block_table
        # One new token each: ask for every row, wanted or not, for the same reason.
        decoding = np.array_equal(step.query_start, np.arange(batch + 1))
        rows = step.logits_rows.astype(np.int32)
        asked = np.arange(batch, dtype=np.int32) if decoding else rows if len(rows) else np.zeros(1, np.int32)
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": step.input_ids,
            "query_start": step.query_start,
            "context_len": step.context_len,
            "block_table": table,
        }
        results = np.empty((len(asked), self._width), np.float32)
        most = self._launcher.max_rows
        for first in range(0, len(asked), most):
            part = asked[first : first + most]
            output = self._launcher.run({**inputs, "logits_rows": part}, self._caches, len(part))
            if len(part) == len(asked):
                results = output
            else:
                results[first : first + len(part)] = output
        if decoding and not np.array_equal(rows, asked):
            results = results[rows]
        return Output(results[: len(rows)])

    def stored_keys(self, layer: int, block: int, slot: int) -> None:
        """Nothing: the cache is on the GPU."""

    def close(self) -> None:
        """Free graphs, contexts, the plan and all memory."""
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None
            self._plan.close()
            self._device.close()
