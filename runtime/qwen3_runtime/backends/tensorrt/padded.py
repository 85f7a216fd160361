"""TensorRT's own attention: padded calls over caches that the plan updates in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.backends.padding import check_blocks, split_step
from qwen3_runtime.backends.tensorrt.launch import ALIGNMENT, Caches, Launcher
from qwen3_runtime.backends.tensorrt.signature import (
    cache_parts,
    check_aliases,
    check_signature,
    padded_slots,
    read_profiles,
    width,
)
from qwen3_runtime.errors import EngineClosedError, UnsupportedEngineError
from qwen3_runtime.step import CacheGeometry, Output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_runtime.backends.padding import PaddedCall
    from qwen3_runtime.backends.tensorrt.device import Device
    from qwen3_runtime.backends.tensorrt.plan import Plan
    from qwen3_runtime.manifest import Contract
    from qwen3_runtime.step import Step


class PaddedBackend:
    """Executes steps of an engine with `attention: native`; a `Backend`.

    The cache has one block a sequence. Its length is fixed in the plan, so a block is as long as the engine's own
    `max_context`. Keys and values of a layer are one array [num_blocks, kv_heads, max_context, head_dim]; a call uses
    a range of neighbouring blocks, in and out at one address.

    Args:
        device: where it runs; closed with the backend.
        plan: the engine's plan; likewise.
        contract: from the manifest.
        max_sequences: blocks of the cache.
        graphs: whether decode calls are recorded as CUDA graphs.

    Raises:
        EngineError: the plan differs from the manifest, or the cache does not fit into the GPU's memory.
    """

    def __init__(
        self, device: Device, plan: Plan, contract: Contract, *, max_sequences: int, graphs: bool = True
    ) -> None:
        self._device, self._plan = device, plan
        slots, tensors = padded_slots(contract), plan.tensors()
        check_signature(slots, tensors)
        check_aliases(slots, tensors)
        profiles = read_profiles(slots, tensors)
        self._width = width(contract)
        self._launcher: Launcher | None = Launcher(device, plan, slots, profiles, output=contract.output, graphs=graphs)
        self._block_shape = (contract.kv_heads, contract.max_context, contract.head_dim)
        element = 4 if contract.cache_dtype == "float32" else 2
        self._block_bytes = int(np.prod(self._block_shape)) * element
        if max_sequences > 1 and self._block_bytes % ALIGNMENT:
            raise UnsupportedEngineError(
                f"a sequence's cache is {self._block_bytes} bytes a layer, TensorRT wants multiples of {ALIGNMENT}: "
                "build the engine with a max_context that is a multiple of 16"
            )
        self._memory: dict[str, int] = {}
        for name in cache_parts(contract):
            size = max_sequences * self._block_bytes
            self._memory[name] = device.allocate(size, f"the cache of {max_sequences} sequences")
            device.clear(self._memory[name], size)  # what was there could be NaN: a weight of 0 times NaN is NaN
        self._caches: dict[tuple[int, int], Caches] = {}
        self._filled: NDArray[np.int32] = np.zeros(max_sequences, np.int32)
        self._geometry = CacheGeometry(
            num_blocks=max_sequences,
            block_size=contract.max_context,
            bytes_per_token=len(self._memory) * self._block_bytes // contract.max_context,
        )

    @property
    def cache(self) -> CacheGeometry:
        """One block a sequence."""
        return self._geometry

    def run(self, step: Step) -> Output:
        """Run one step; see `Backend.run`. The output is without `top`: the plan gives all logits.

        A call that wants more rows than the plan gives at once runs again for the others, writing the same cache.

        Raises:
            EngineError: a sequence has more than one block or outgrows it, or CUDA or TensorRT failed.
        """
        if self._launcher is None:
            raise EngineClosedError("the backend is closed")
        ends = step.context_len + np.diff(step.query_start)
        check_blocks(step, ends, self._geometry)
        calls = split_step(step, self._filled, self._geometry.block_size)
        most = self._launcher.max_rows
        launches = [
            (call, call.logits_rows[first : first + most], call.results[first : first + most])
            for call in calls
            for first in range(0, len(call.logits_rows), most)
        ]
        wanted = np.arange(len(step.logits_rows))
        results = np.empty((len(wanted), self._width), np.float32)
        for call, rows, places in launches:
            output = self._call(self._launcher, call, rows)[: len(places)]
            if len(launches) == 1 and np.array_equal(places, wanted):
                results = output  # the next launch would overwrite it
            else:
                results[places] = output
        self._filled[step.block_table[:, 0]] = ends
        return Output(results)

    def stored_keys(self, layer: int, block: int, slot: int) -> None:
        """Nothing: the cache is on the GPU."""

    def close(self) -> None:
        """Free graphs, contexts, the plan and all memory."""
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None
            self._plan.close()
            self._device.close()

    def _call(self, launcher: Launcher, call: PaddedCall, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        batch = len(call.query_len)
        # Decode calls ask for every row, wanted or not, so that a batch has one shape and one CUDA graph.
        every = np.arange(batch) if len(call.input_ids) == batch else rows
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": call.input_ids.reshape(batch, -1),
            "query_len": call.query_len,
            "context_len": call.context_len,
            "logits_rows": every,
        }
        output = launcher.run(inputs, self._caches_of(call.first_block, batch), len(every))
        return output if np.array_equal(rows, every) else output[rows]

    def _caches_of(self, first_block: int, blocks: int) -> Caches:
        """The caches of a range of blocks, one object for each range."""
        found = self._caches.get((first_block, blocks))
        if found is None:
            shape = (blocks, *self._block_shape)
            addresses = {name: base + first_block * self._block_bytes for name, base in self._memory.items()}
            found = self._caches[first_block, blocks] = Caches(
                shapes={f"kv.{name}": shape for name in addresses},
                addresses={f"{kv}.{name}": at for kv in ("kv", "kv_out") for name, at in addresses.items()},
                sizes={"batch": blocks},
            )
        return found
