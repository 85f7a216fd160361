"""What both kinds of TensorRT backend are: a device, a plan, its runner, and caches of one geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_runtime.backends.elements import ELEMENTS
from qwen3_runtime.backends.tensorrt.plan_runner import PlanRunner
from qwen3_runtime.backends.tensorrt.refusals import refusals_as
from qwen3_runtime.backends.tensorrt.signature import check_signature, read_profiles
from qwen3_runtime.errors import EngineClosedError, StepFailedError, UnsupportedEngineError
from qwen3_runtime.step import Output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwen3_graphs.interface import StepInterface
    from qwen3_plugins.tensorrt.bindings.device import Device
    from qwen3_runtime.backends.tensorrt.opened_plan import Plan
    from qwen3_runtime.backends.tensorrt.signature import Profile
    from qwen3_runtime.step import CacheGeometry, Step

_CACHES = ("FLOAT", "FLOAT16", "BFLOAT16")


class PlanBackend:
    """A `Backend`, but for how a step becomes calls of the plan, which is `_run`, and for its caches.

    Args:
        device: where it runs; closed with the backend.
        plan: the engine's plan; likewise.
        interface: its inputs and outputs, by the manifest.
        graphs: whether decode calls are recorded as CUDA graphs.

    Raises:
        EngineError: the plan differs from the manifest.
        BindingsError: the GPU has not enough memory.
    """

    _geometry: CacheGeometry

    def __init__(self, device: Device, plan: Plan, interface: StepInterface, *, graphs: bool) -> None:
        self._device, self._plan, self._interface = device, plan, interface
        cache = interface.caches[0].element
        if cache not in _CACHES:
            raise UnsupportedEngineError(f"the engine's cache is {cache}; this backend has {', '.join(_CACHES)}")
        self._element_bytes = np.dtype(ELEMENTS[cache].dtype).itemsize
        self._tensors = plan.tensors()
        check_signature(interface, self._tensors)
        self._profiles: list[Profile] = read_profiles(interface, self._tensors)
        self._width = interface.width
        self._runner: PlanRunner | None = PlanRunner(device, plan, interface, self._profiles, graphs=graphs)

    @property
    def cache(self) -> CacheGeometry:
        """The blocks of the cache."""
        return self._geometry

    def run(self, step: Step) -> Output:
        """Run one step; see `Backend.run`. The output is without `top`: the plan gives all logits.

        A call that wants more rows than the plan gives at once runs again for the others, writing the same cache.

        Raises:
            EngineError: the step does not fit the cache, or CUDA or TensorRT failed.
        """
        if self._runner is None:
            raise EngineClosedError("the backend is closed")
        with refusals_as(StepFailedError):
            return Output(self._run(self._runner, step))

    def _run(self, runner: PlanRunner, step: Step) -> NDArray[np.float32]:
        """The output of a step, float32 [R, width]."""
        raise NotImplementedError

    def stored_keys(self, layer: int, block: int, slot: int) -> None:
        """Nothing: the cache is on the GPU."""

    def close(self) -> None:
        """Free graphs, contexts, the plan and all memory."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
            self._plan.close()
            self._device.close()

    def _allocate_cache(self, shape: tuple[int, ...], max_sequences: int) -> int:
        """Reserve and clear the memory of a cache; returns its address."""
        size = int(np.prod(shape)) * self._element_bytes
        address = self._device.allocate(size, f"the cache of {max_sequences} sequences")
        self._device.clear(address, size)  # what was there could be NaN, and a weight of 0 times NaN is NaN
        return address
