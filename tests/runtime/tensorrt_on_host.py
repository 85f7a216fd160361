"""TensorRT's runtime API over host memory: a plan that ONNX Runtime executes on the CPU.

What a plan says of its tensors is what the real builder says of the network that the real parser made of the file:
names, types, shapes, caches in place, the shapes of the profiles. Only what needs a device is imitated, with the rules
that TensorRT documents: addresses aligned to 256 bytes, shapes inside the profile, scratch memory set, no recording
before a first execution, no other use of a context whose work was recorded.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from qwen3_plugins.tensorrt.bindings import logger, modules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cuda_on_host import HostCuda

real: Any = modules.load_tensorrt("tensorrt-rtx")
LOGGER = logger.shared(real)  # TensorRT keeps the first that it is given

ONNX_TYPE = {"FLOAT": 1, "HALF": 10, "INT32": 6, "INT64": 7}
SCRATCH = 4096
MAGIC = b"vtrt"  # how a plan begins


@dataclass
class Network:
    """What the real parser made of an engine's graph, kept alive with its builder, and the profiles of its plan."""

    tells_aliases = True

    path: Path
    builder: Any
    network: Any
    profiles: list[Any]

    def __post_init__(self) -> None:
        inputs = [self.network.get_input(index) for index in range(self.network.num_inputs)]
        outputs = [self.network.get_output(index) for index in range(self.network.num_outputs)]
        self.tensors = {tensor.name: tensor for tensor in (*inputs, *outputs)}
        layers = [self.network.get_layer(index) for index in range(self.network.num_layers)]
        updates = [layer for layer in layers if layer.type == real.LayerType.KV_CACHE_UPDATE]
        self.aliases = {layer.get_output(0).name: layer.get_input(0).name for layer in updates}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self.session = onnxruntime.InferenceSession(str(self.path), options, ["CPUExecutionProvider"])

    def compute(self, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> None:
        """Execute with all tensors where they are."""
        binding = self.session.io_binding()
        for name, shape in shapes.items():
            tensor = self.tensors[name]
            bind = binding.bind_input if tensor.is_network_input else binding.bind_output
            bind(name, "cpu", 0, ONNX_TYPE[tensor.dtype.name], shape, addresses[name])
        self.session.run_with_iobinding(binding)


def import_network(path: Path, sizes: Sequence[Mapping[str, tuple[int, int, int]]]) -> Network:
    """Import a graph with the real parser.

    Args:
        path: the file.
        sizes: of each profile, least, best and most by the name of a dimension.
    """
    builder = real.Builder(LOGGER)
    network = builder.create_network(0)
    parser = real.OnnxParser(network, LOGGER)
    assert parser.parse_from_file(str(path)), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    profiles = []
    for bounds in sizes:
        profile = builder.create_optimization_profile()
        for tensor in (network.get_input(index) for index in range(network.num_inputs)):
            names = [tensor.get_dimension_name(axis) for axis in range(len(tensor.shape))]
            shapes = [
                tuple(bounds[name][at] if size < 0 else size for name, size in zip(names, tensor.shape, strict=True))
                for at in range(3)
            ]
            profile.set_shape(tensor.name, *shapes)
        profiles.append(profile)
    return Network(path, builder, network, profiles)


@dataclass(eq=False)
class HostTensorRt:
    """A module-like object: `tensorrt_rtx`, or `tensorrt` where `rtx` is false."""

    cuda: HostCuda
    network: Any  # a `Network`, or what has the same attributes
    rtx: bool = True
    __version__: str = real.__version__
    contexts: list[HostContext] = field(default_factory=list)

    ILogger = real.ILogger
    TensorIOMode = real.TensorIOMode
    TensorLocation = real.TensorLocation
    ExecutionContextAllocationStrategy = real.ExecutionContextAllocationStrategy

    def __getattr__(self, name: str) -> Any:
        if name == "CudaGraphStrategy" and self.rtx:
            return real.CudaGraphStrategy
        raise AttributeError(name)

    def Runtime(self, logger: Any) -> HostRuntime:  # noqa: N802 - TensorRT's name
        real.Runtime(logger)  # the real one takes it too
        return HostRuntime(self, logger)


@dataclass
class HostRuntime:
    trt: HostTensorRt
    logger: Any

    def deserialize_cuda_engine(self, data: Any) -> HostEngine | None:
        if bytes(data[:4]) != MAGIC:
            self.logger.log(real.ILogger.Severity.ERROR, "Serialization assertion failed.\nmore of it")
            return None
        return HostEngine(self.trt)


class HostEngine:
    """An `ICudaEngine`, by the real network."""

    device_memory_size_v2 = SCRATCH

    def __init__(self, trt: HostTensorRt) -> None:
        self.trt, self.network, self._tensors = trt, trt.network, trt.network.tensors
        self.num_io_tensors = len(self._tensors)
        self.num_optimization_profiles = len(self.network.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        is_input = self._tensors[name].is_network_input
        return real.TensorIOMode.INPUT if is_input else real.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].dtype

    def get_tensor_shape(self, name: str) -> Any:
        return self._tensors[name].shape

    def get_tensor_location(self, name: str) -> Any:
        return real.TensorLocation.HOST if self._tensors[name].is_shape_tensor else real.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, index: int) -> list[Any]:
        return list(self.network.profiles[index].get_shape(name))

    def get_aliased_input_tensor(self, name: str) -> str | None:
        return self.network.aliases.get(name) if self.network.tells_aliases else None

    def create_runtime_config(self) -> HostConfig:
        return HostConfig()

    def create_execution_context(self, config: HostConfig) -> HostContext:
        assert config.strategy == real.ExecutionContextAllocationStrategy.USER_MANAGED
        context = HostContext(self, config)
        self.trt.contexts.append(context)
        return context


@dataclass
class HostConfig:
    cuda_graph_strategy: Any = real.CudaGraphStrategy.DISABLED
    strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy


class HostContext:
    """An `IExecutionContext` that has ONNX Runtime read and write at the addresses that it is given."""

    def __init__(self, engine: HostEngine, config: HostConfig) -> None:
        self.engine, self.config = engine, config
        self.cuda = engine.trt.cuda
        self.profile = -1
        self.scratch: tuple[int, int] | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.executed = self.recorded = False
        self.bindings = 0

    def _changed(self) -> None:
        assert not self.recorded, "a context whose work was recorded must be left alone"
        self.executed = False
        self.bindings += 1

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self._changed()
        self.profile = index
        return 0 <= index < self.engine.num_optimization_profiles and stream == 0x5000

    def set_device_memory(self, memory: int, size: int) -> None:
        self._changed()
        assert size >= SCRATCH
        assert memory % 256 == 0
        self.cuda.at(memory, size)
        self.scratch = (memory, size)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._changed()
        smallest, _, largest = self.engine.get_tensor_profile_shape(name, self.profile)
        self.shapes[name] = tuple(shape)
        return len(shape) == len(smallest) and all(
            low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)
        )

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._changed()
        self.addresses[name] = memory
        return name in self.engine._tensors and memory % 256 == 0

    def infer_shapes(self) -> list[str]:
        inputs = [name for name, tensor in self.engine._tensors.items() if tensor.is_network_input]
        return [name for name in inputs if name not in self.shapes]

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == 0x5000
        if self.scratch is None or self.addresses.keys() != self.engine._tensors.keys():
            return False
        assert not self.recorded, "a context whose work was recorded must be left alone"
        if self.cuda.capturing is not None:
            assert self.executed, "new shapes must be executed once before they are recorded"
            self.recorded = True
        self.executed = True
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        self.cuda.push(lambda: self._compute(shapes, addresses))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        for name, tensor in self.engine._tensors.items():
            alias = self.engine.network.aliases.get(name)
            if not tensor.is_network_input:
                shapes[name] = shapes[alias] if alias else (*shapes["logits_rows"], tensor.shape[-1])
            self.cuda.at(addresses[name], int(np.prod(shapes[name])) * tensor.dtype.itemsize)
        self.engine.network.compute(shapes, addresses)


def methods_that_the_bindings_lack() -> list[str]:
    """Methods of the imitations that TensorRT's classes do not have, or not with so many arguments."""
    pairs = (
        (HostEngine, real.ICudaEngine),
        (HostContext, real.IExecutionContext),
        (HostConfig, real.IRuntimeConfig),
        (HostRuntime, real.Runtime),
    )
    return [
        f"{theirs.__name__}.{name}"
        for ours, theirs in pairs
        for name, method in inspect.getmembers(ours, inspect.isfunction)
        if not name.startswith("_") and len(inspect.signature(method).parameters) not in _counts(theirs, name)
    ]


def _counts(kind: Any, name: str) -> set[int]:
    """How many arguments the overloads of a binding take, itself included; from its documentation."""
    documented = re.findall(rf"\b{name}\(self: (.*)\) ->", getattr(kind, name, int).__doc__ or "")
    return {1 + re.sub(r"\[[^\]]*\]", "", arguments).count(", ") for arguments in documented}
