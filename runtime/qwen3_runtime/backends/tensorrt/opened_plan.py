"""A TensorRT plan: opening it, what it says of its tensors, the contexts that execute it."""

from __future__ import annotations

import mmap
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_plugins.tensorrt.bindings import logger
from qwen3_runtime.errors import StepFailedError, UnsupportedEngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from qwen3_plugins.tensorrt.bindings.device import Device

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output of a plan.

    Attributes:
        name: its name.
        is_input: or an output.
        dtype: TensorRT's name of the element type, such as `HALF`.
        shape: -1 where an optimization profile decides.
        on_device: whether it is data on the device, or a shape that TensorRT reads on the host.
        profiles: of an input, the smallest, best and largest shape in each optimization profile.
        alias: of an output, the input that it shares memory with, where TensorRT tells.
    """

    name: str
    is_input: bool
    dtype: str
    shape: Shape
    on_device: bool
    profiles: tuple[tuple[Shape, Shape, Shape], ...]
    alias: str | None


class Plan:
    """A deserialized plan on a device. Its contexts share one scratch memory: they run one after the other.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        device: where it runs.
        path: the plan.
        built_with: version of that module when the plan was built, for the message when it is refused.

    Attributes:
        records_itself: TensorRT-RTX makes its own CUDA graphs, so that kernels which it specializes in the
            background find their way into them.

    Raises:
        EngineError: TensorRT refuses the plan; with its reason.
    """

    def __init__(self, trt: Any, device: Device, path: Path, *, built_with: str | None) -> None:  # noqa: ANN401
        self._trt = trt
        self._device = device
        self.records_itself = hasattr(trt, "CudaGraphStrategy")
        self._errors: deque[str] = deque(maxlen=64)  # TensorRT would print them
        self._logger = logger.shared(trt)
        self._listener = _error_listener(trt, self._errors)
        self._logger.listeners.append(self._listener)
        self._runtime: Any = trt.Runtime(self._logger)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            version = trt.__version__
            built = f"built with TensorRT {built_with}, this is {version}" if built_with != version else ""
            why = built or self.why()
            self.close()
            raise UnsupportedEngineError(
                f"{path}: TensorRT refuses the plan ({why}); build the engine for this machine"
            )
        self._scratch_size = int(self._engine.device_memory_size_v2)
        self._scratch = device.allocate(self._scratch_size, "the activations of the largest step")

    def tensors(self) -> Mapping[str, Tensor]:
        """Inputs and outputs, by name."""
        engine, trt = self._engine, self._trt
        found = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            profiles = range(engine.num_optimization_profiles) if is_input else ()
            found[name] = Tensor(
                name=name,
                is_input=is_input,
                dtype=engine.get_tensor_dtype(name).name,
                shape=tuple(engine.get_tensor_shape(name)),
                on_device=engine.get_tensor_location(name) == trt.TensorLocation.DEVICE,
                profiles=tuple(_three(engine.get_tensor_profile_shape(name, profile)) for profile in profiles),
                alias=None if is_input else engine.get_aliased_input_tensor(name) or None,
            )
        return found

    def context(self, profile: int, *, repeated: bool) -> Any:  # noqa: ANN401 - an IExecutionContext
        """Create a context.

        Args:
            profile: the optimization profile that it stays with.
            repeated: whether it will run the same shapes again and again.

        Raises:
            EngineError: TensorRT cannot create it.
        """
        trt = self._trt
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if repeated and self.records_itself:
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        context = self._engine.create_execution_context(config)
        if context is None or not context.set_optimization_profile_async(profile, self._device.stream):
            raise UnsupportedEngineError(f"TensorRT cannot run the plan: {self.why()}")
        context.set_device_memory(self._scratch, self._scratch_size)
        return context

    def bind(self, context: Any, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> None:  # noqa: ANN401
        """Give a context the shapes of its inputs and the addresses of all tensors.

        Raises:
            EngineError: TensorRT refuses one of them, or wants another.
        """
        refused = [name for name, shape in shapes.items() if not context.set_input_shape(name, shape)]
        refused += [name for name, address in addresses.items() if not context.set_tensor_address(name, address)]
        if refused:
            raise StepFailedError(f"TensorRT refuses what it is given for {refused[0]!r}: {self.why()}")
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:
            raise StepFailedError(f"TensorRT cannot infer the shapes of a step: {first_line(str(error))}") from None
        if missing:
            raise StepFailedError(f"TensorRT needs the shape of {missing[0]!r}, which the step does not have")

    def enqueue(self, context: Any) -> None:  # noqa: ANN401 - an IExecutionContext
        """Queue one execution.

        Raises:
            EngineError: TensorRT cannot start it.
        """
        if not context.execute_async_v3(self._device.stream):
            raise StepFailedError(f"TensorRT failed in a step: {self.why()}")

    def close(self) -> None:
        """Free the plan. Its contexts must be gone."""
        self._engine = self._runtime = None
        if self._listener in self._logger.listeners:
            self._logger.listeners.remove(self._listener)

    def why(self) -> str:
        """What TensorRT reported first since it was asked last."""
        reported = list(self._errors)
        self._errors.clear()
        return first_line(reported[0]) if reported else "it gives no reason"


def first_line(text: str) -> str:
    """The first line of a message, which may go on for many."""
    return next(iter(text.strip().splitlines()), "no message")


def _three(shapes: Any) -> tuple[Shape, Shape, Shape]:  # noqa: ANN401 - a list of Dims
    smallest, best, largest = (tuple(shape) for shape in shapes)
    return smallest, best, largest


def _error_listener(trt: Any, errors: deque[str]) -> Callable[[Any, str], None]:  # noqa: ANN401 - no types
    """A listener that holds nothing but the errors, should nobody take it away."""
    kept = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    def listen(severity: Any, message: str) -> None:  # noqa: ANN401 - TensorRT's Severity
        if severity in kept:
            errors.append(message)

    return listen
