"""Our attention plugin: packed steps, as they come, over a pool of cache blocks that the plan writes in place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qwen3_graphs import interface
from qwen3_runtime.backends.elements import step_model
from qwen3_runtime.backends.filling import PACKED, fill
from qwen3_runtime.backends.tensorrt.plan_backend import PlanBackend
from qwen3_runtime.backends.tensorrt.plan_runner import Caches
from qwen3_runtime.cache import blocks_for
from qwen3_runtime.errors import DamagedEngineError, RequestError, StepFailedError
from qwen3_runtime.step import CacheGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_plugins.tensorrt.bindings.device import Device
    from qwen3_runtime.backends.tensorrt.opened_plan import Plan
    from qwen3_runtime.backends.tensorrt.plan_runner import PlanRunner
    from qwen3_runtime.manifest import ModelConfig
    from qwen3_runtime.step import Step


class PackedPlanBackend(PlanBackend):
    """Executes steps of an engine with our attention plugin; a `Backend`.

    The cache of a layer is one array [num_blocks, 2, kv_heads, block, head_dim], whose block length is fixed in the
    plan; any sequence may hold any block.

    Args:
        device: where it runs; closed with the backend.
        plan: the engine's plan; likewise.
        model: from the manifest.
        max_sequences: sequences that the cache has room for.
        max_context: tokens of each.
        graphs: whether decode steps are recorded as CUDA graphs.

    Raises:
        EngineError: the plan differs from the manifest, or was not built for a cache of this size.
        BindingsError: the cache does not fit into the GPU's memory.
    """

    def __init__(
        self,
        device: Device,
        plan: Plan,
        model: ModelConfig,
        *,
        max_sequences: int,
        max_context: int,
        graphs: bool = True,
    ) -> None:
        super().__init__(device, plan, interface.packed(step_model(model)), graphs=graphs)
        block = self._tensors[self._interface.caches[0].name].shape[3]
        if block < 1:
            raise DamagedEngineError("model.plan: its cache blocks have no fixed length; build the engine again")
        blocks = max_sequences * blocks_for(max_context, block)
        most = min(profile.bounds["blocks"][1] for profile in self._profiles)
        if blocks > most:
            raise RequestError(
                f"{max_sequences} sequences of {max_context} tokens need {blocks} cache blocks, the engine was built "
                f"for {most}: open it with a smaller max_context or max_sequences",
                field="max_sequences",
            )
        # Every step has block tables of one width, so that a batch has one shape and one CUDA graph.
        self._table_width = blocks_for(max_context, block)
        shape = (blocks, 2, model.kv_heads, block, model.head_dim)
        caches = {each.name: self._allocate_cache(shape, max_sequences) for each in self._interface.caches}
        written = {output.name: caches[name] for name, output in self._interface.written.items()}
        self._caches = Caches(
            shapes=dict.fromkeys(caches, shape),
            addresses={**caches, **written},
            sizes={"blocks": blocks, "block": block},
        )
        tokens = blocks * block
        self._geometry = CacheGeometry(
            num_blocks=blocks,
            block_size=block,
            bytes_per_token=len(caches) * int(np.prod(shape)) * self._element_bytes // tokens,
        )

    def _run(self, runner: PlanRunner, step: Step) -> NDArray[np.float32]:
        batch, held = step.block_table.shape
        if held > self._table_width:
            raise StepFailedError(f"a sequence has {held} cache blocks, the backend was opened for {self._table_width}")
        table = np.full((batch, self._table_width), -1, np.int32)
        table[:, :held] = step.block_table
        # One new token each: ask for every row, wanted or not, for the same reason.
        decoding = np.array_equal(step.query_start, np.arange(batch + 1))
        rows = step.logits_rows.astype(np.int32)
        asked = np.arange(batch, dtype=np.int32) if decoding else rows if len(rows) else np.zeros(1, np.int32)
        widened = replace(step, block_table=table)
        results = np.empty((len(asked), self._width), np.float32)
        most = runner.max_rows
        for first in range(0, len(asked), most):
            part = asked[first : first + most]
            inputs = fill(self._interface.fed, PACKED, replace(widened, logits_rows=part))
            output = runner.run(inputs, self._caches, len(part))
            if len(part) == len(asked):
                results = output
            else:
                results[first : first + len(part)] = output
        if decoding and not np.array_equal(rows, asked):
            results = results[rows]
        return results[: len(rows)]
