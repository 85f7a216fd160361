"""Builds the plan of a graph: imported, profiled, compiled for its architectures, written whole or not at all."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_compile.errors import CompileError
from qwen3_compile.tensorrt.availability import load_library
from qwen3_compile.tensorrt.messages import explain, record_messages
from qwen3_compile.tensorrt.stopping import build_interruptibly
from qwen3_plugins.tensorrt import plugin_v3
from qwen3_plugins.tensorrt.bindings.capabilities import number_of
from qwen3_plugins.tensorrt.errors import PluginError
from qwen3_plugins.tensorrt.importing import with_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    from qwen3_compile.tensorrt.messages import Messages
    from qwen3_compile.tensorrt.profiles import PlanProfile


@dataclass(frozen=True)
class PlanRequest:
    """What to build.

    Attributes:
        backend: `tensorrt` or `tensorrt-rtx`.
        capabilities: architectures, such as `8.9`; backend `tensorrt` builds for the GPU of this machine whatever
            stands here.
        profiles: in the order of their numbers.
        plugins: whether nodes of the graph are our plugins.
    """

    backend: str
    capabilities: tuple[str, ...]
    profiles: tuple[PlanProfile, ...]
    plugins: bool = False


@dataclass(frozen=True)
class PlanFacts:
    """What was built.

    Attributes:
        size: bytes of the plan.
        seconds: that importing and building took.
        layers: how many layers of each kind TensorRT made of the graph, before it fused them.
        warnings: what it warned of, each once.
    """

    size: int
    seconds: float
    layers: Mapping[str, int]
    warnings: tuple[str, ...]


def build_plan(model: Path, plan: Path, request: PlanRequest) -> PlanFacts:
    """Build the plan of a graph.

    The same graph and request give a plan of the same size and the same layers, but not always the same bytes:
    TensorRT compiles on many threads, and the order of its tables is that in which they finish.

    Args:
        model: the graph, its weights beside it.
        plan: the new file.
        request: for what it is built.

    Raises:
        CompileError: TensorRT refuses the graph or cannot build it; with its reason in one line.
        UnsupportedError: the backend's module is missing.
        OSError: the plan cannot be written.
    """
    trt = load_library(request.backend)
    started = time.monotonic()
    plugin_v3.take_refusals()  # those of an earlier build
    with record_messages(trt) as (logger, messages):
        builder = trt.Builder(logger)
        if not builder:
            raise _failure(request, "start", messages)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = _import(trt, network, logger, model, request, messages)
        config = builder.create_builder_config()
        # On by default, it would round a router's float32 inputs to ten bits: validated arithmetic keeps them.
        config.clear_flag(trt.BuilderFlag.TF32)
        if request.plugins:
            plugin_v3.allow_in_place(trt, config)
        _add_profiles(builder, config, network, request.profiles)
        if request.backend == "tensorrt-rtx":
            _choose_architectures(trt, config, request.capabilities)
        layers = Counter(network.get_layer(index).type.name for index in range(network.num_layers))
        built = build_interruptibly(trt, config, lambda: builder.build_serialized_network(network, config))
        del parser  # the network's weights were in its memory until here
        if built is None:
            raise _failure(request, "build", messages)
        if refusals := plugin_v3.take_refusals():  # a plan all the same, but without what the plugin failed to give
            raise CompileError(f"{request.backend} cannot build: {refusals[0]}")
        size = _write(built, plan)
    return PlanFacts(size, time.monotonic() - started, dict(sorted(layers.items())), _once(messages.warnings))


def _import(
    trt: ModuleType,
    network: Any,  # noqa: ANN401 - the module has no types
    logger: Any,  # noqa: ANN401
    model: Path,
    request: PlanRequest,
    messages: Messages,
) -> Any:  # noqa: ANN401
    """Parse the graph into `network`; the parser must be kept until the network is built."""
    parser = trt.OnnxParser(network, logger)
    if request.plugins:
        capabilities = [number_of(capability) for capability in request.capabilities]
        try:
            content = with_plugins(trt, model.read_bytes(), capabilities)
        except PluginError as error:
            raise CompileError(f"{request.backend} cannot import {model.name}: {error}") from None
        parsed = parser.parse(content, str(model))
    else:
        parsed = parser.parse_from_file(str(model))
    if parsed:
        return parser
    problems = [parser.get_error(index) for index in range(parser.num_errors)]
    if problems and (problem := problems[0]).node_operator():
        messages.errors.insert(0, problem.desc())
        where = f"node {problem.node_name() or problem.node()} ({problem.node_operator()})"
        raise _failure(request, f"import {model.name}, {where}", messages)
    messages.errors += [problem.desc() for problem in problems]  # the log knows the cause, of a missing file say
    raise _failure(request, f"import {model.name}", messages)


def _add_profiles(builder: Any, config: Any, network: Any, profiles: Sequence[PlanProfile]) -> None:  # noqa: ANN401
    """Give every profile a shape of each input; the graph names the dimensions that steps choose."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for profile in profiles:
        made = builder.create_optimization_profile()
        for tensor in inputs:
            bounds = [_bounds(profile, tensor, axis, size) for axis, size in enumerate(tensor.shape)]
            if any(size < 0 for size in tensor.shape):
                made.set_shape(tensor.name, *zip(*bounds, strict=True))
        if config.add_optimization_profile(made) < 0:
            raise CompileError(f"TensorRT refuses the optimization profile for {profile.name}: {dict(profile.sizes)}")


def _bounds(profile: PlanProfile, tensor: Any, axis: int, size: int) -> tuple[int, int, int]:  # noqa: ANN401
    if size >= 0:
        return size, size, size
    name = tensor.get_dimension_name(axis)
    if name not in profile.sizes:
        raise CompileError(
            f"model.onnx: dimension {axis} of input {tensor.name!r} is {name!r}, which the profile for "
            f"{profile.name} does not set (it sets {', '.join(profile.sizes)})"
        )
    return profile.sizes[name]


def _choose_architectures(trt: ModuleType, config: Any, capabilities: Sequence[str]) -> None:  # noqa: ANN401
    known = trt.ComputeCapability.__members__
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(sorted(capabilities, key=number_of)):
        name = f"SM{number_of(capability)}"
        if name not in known:
            raise CompileError(f"{trt.__name__} {trt.__version__} does not build for compute capability {capability}")
        config.set_compute_capability(known[name], index)


def _write(built: Any, plan: Path) -> int:  # noqa: ANN401 - IHostMemory
    data = memoryview(built)
    try:
        with plan.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise
    except OSError:
        plan.unlink(missing_ok=True)
        raise
    return data.nbytes


def _failure(request: PlanRequest, doing: str, messages: Messages) -> CompileError:
    if refusals := plugin_v3.take_refusals() if request.plugins else ():
        return CompileError(f"{request.backend} cannot {doing}: {refusals[0]}")
    return CompileError(f"{request.backend} cannot {doing}: {explain(messages.errors)}")


def _once(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))
