"""Runs calls of a plan: inputs staged in pinned memory, one copy in, one execution, one copy out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.backends.elements import ELEMENTS
from qwen3_runtime.backends.tensorrt.signature import choose_profile, step_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from qwen3_graphs.interface import StepInterface
    from qwen3_plugins.tensorrt.bindings.device import Device, Graph
    from qwen3_runtime.backends.tensorrt.opened_plan import Plan, Shape
    from qwen3_runtime.backends.tensorrt.signature import Profile

ALIGNMENT = 256
"""Of every address that TensorRT is given, in bytes."""

MAX_GRAPHS = 32
"""CUDA graphs that are kept: as many sizes of a batch as usually take turns."""

ROWS_AT_ONCE = 64
"""Rows of the output that memory is reserved for at least; a row of logits is 0.6 MB."""


@dataclass(frozen=True, eq=False)
class Caches:
    """The caches of a call, compared by identity.

    Attributes:
        shapes: of the inputs.
        addresses: of inputs and outputs.
        sizes: the dimensions that the shapes fix.
    """

    shapes: Mapping[str, Shape]
    addresses: Mapping[str, int]
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class StagedInput:
    """Where an input lies in the staging memory, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class _Call:
    """A call whose inputs are staged.

    Attributes:
        profile: the profile that holds it.
        shapes: of the staged inputs.
        caches: its caches.
        end: bytes of the staging memory that it uses.
        results: where its output is wanted.
    """

    profile: Profile
    shapes: Mapping[str, Shape]
    caches: Caches
    end: int
    results: NDArray[np.float32]

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for calls that a context need not be bound anew for."""
        return (self.profile.index, *self.shapes.values(), self.caches)


@dataclass(frozen=True)
class _Recorded:
    """A decode call that is launched again; TensorRT forbids other uses of a context whose work was recorded."""

    graph: Graph
    context: Any


class PlanRunner:
    """Runs a plan's calls on its device, one after the other.

    A call whose shapes and caches came before, in the profile for decode, is replayed from a CUDA graph: copies
    included, so that a step costs the host three calls.

    Args:
        device: where it runs.
        plan: the plan.
        interface: its inputs and outputs; the result is what is wanted.
        profiles: the narrowest first.
        graphs: whether decode calls are recorded; without, every call is queued anew.

    Attributes:
        max_rows: rows of the output that a call may ask for.
    """

    def __init__(
        self,
        device: Device,
        plan: Plan,
        interface: StepInterface,
        profiles: list[Profile],
        *,
        graphs: bool = True,
    ) -> None:
        self._device, self._plan, self._interface, self._profiles = device, plan, interface, profiles
        self._output = interface.result.name
        self._graphs = graphs
        self._regions = stage_plan(interface, profiles)
        size = sum(region.size for region in self._regions.values())
        self._staged_host = device.allocate_host(size)
        self._staged = device.allocate(size, "the inputs of a step")
        width = interface.width
        every = max(profile.bounds["B"][1] for profile in profiles)
        most = max(profile.bounds["R"][1] for profile in profiles)
        self.max_rows = max_rows = min(most, max(every, ROWS_AT_ONCE))
        self._results_host = device.allocate_host(max_rows * width * 4).view(np.float32).reshape(max_rows, width)
        self._results = device.allocate(max_rows * width * 4, "the results of a step")
        self._contexts: dict[int, Any] = {}
        self._bound_to: dict[int, tuple[object, ...]] = {}
        self._recorded: OrderedDict[tuple[object, ...], _Recorded] = OrderedDict()

    def run(self, inputs: Mapping[str, NDArray[Any]], caches: Caches, rows: int) -> NDArray[np.float32]:
        """Run a call and wait for it.

        Args:
            inputs: every input but the caches, contiguous, of the declared types.
            caches: the caches.
            rows: rows of the output.

        Returns:
            float32 [rows, width], pinned memory that the next call overwrites.

        Raises:
            EngineError: no profile holds the call, or CUDA or TensorRT failed.
        """
        shapes = {name: array.shape for name, array in inputs.items()}
        profile = choose_profile(self._profiles, step_sizes(self._interface, shapes, caches.sizes))
        call = _Call(profile, shapes, caches, self._stage(inputs), self._results_host[:rows])
        repeated = self._graphs and len(self._profiles) > 1 and profile is self._profiles[0]
        if repeated and not self._plan.records_itself:
            self._replay(call)
        else:
            self._execute(self._bound(call, repeated=repeated), call)
        self._device.wait()
        return call.results

    def close(self) -> None:
        """Free contexts and graphs; the device frees the memory."""
        self._contexts.clear()
        while self._recorded:
            _, recorded = self._recorded.popitem()
            self._device.forget(recorded.graph)

    def _stage(self, inputs: Mapping[str, NDArray[Any]]) -> int:
        """Write the inputs into pinned memory; returns the end of what was written."""
        end = 0
        for name, array in inputs.items():
            region = self._regions[name]
            flat = array.reshape(-1).view(np.uint8)
            self._staged_host[region.offset : region.offset + len(flat)] = flat
            end = max(end, region.offset + len(flat))
        return end

    def _bound(self, call: _Call, *, repeated: bool) -> Any:  # noqa: ANN401 - an IExecutionContext
        """The context of a call's profile, bound to it."""
        index = call.profile.index
        context = self._contexts.get(index)
        if context is None:
            context = self._contexts[index] = self._plan.context(index, repeated=repeated)
        if self._bound_to.get(index) != call.key:
            self._bound_to.pop(index, None)  # in case it fails half-way
            self._bind(context, call)
            self._bound_to[index] = call.key
        return context

    def _replay(self, call: _Call) -> None:
        """Launch the CUDA graph of a call; the first time, execute the call and record it for the next."""
        found = self._recorded.get(call.key)
        if found is not None:
            self._recorded.move_to_end(call.key)
            self._device.replay(found.graph)
            return
        if len(self._recorded) == MAX_GRAPHS:
            _, oldest = self._recorded.popitem(last=False)
            self._device.forget(oldest.graph)
        context = self._plan.context(call.profile.index, repeated=True)
        self._bind(context, call)
        # The first execution does what new shapes ask for, which cannot be recorded; it also gives this step's results.
        self._execute(context, call)
        self._device.wait()
        graph = self._device.record(lambda: self._execute(context, call))
        self._recorded[call.key] = _Recorded(graph, context)

    def _bind(self, context: Any, call: _Call) -> None:  # noqa: ANN401 - an IExecutionContext
        staged = {name: self._staged + region.offset for name, region in self._regions.items()}
        addresses = {**staged, **call.caches.addresses, self._output: self._results}
        self._plan.bind(context, {**call.shapes, **call.caches.shapes}, addresses)

    def _execute(self, context: Any, call: _Call) -> None:  # noqa: ANN401 - an IExecutionContext
        self._device.copy_in(self._staged, self._staged_host[: call.end])
        self._plan.enqueue(context)
        self._device.copy_out(call.results, self._results)


def stage_plan(interface: StepInterface, profiles: list[Profile]) -> dict[str, StagedInput]:
    """Lay out the inputs that every step copies, the largest last, so that short steps copy little.

    Args:
        interface: inputs and outputs; caches stay on the device.
        profiles: each input gets room for its largest shape in any of them.
    """
    sizes = {
        each.name: np.dtype(ELEMENTS[each.element].dtype).itemsize
        * max(
            int(np.prod([size if isinstance(size, int) else profile.bounds[size][1] for size in each.shape]))
            for profile in profiles
        )
        for each in interface.fed
    }
    regions, offset = {}, 0
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        room = -(-sizes[name] // ALIGNMENT) * ALIGNMENT
        regions[name] = StagedInput(offset, room)
        offset += room
    return regions
