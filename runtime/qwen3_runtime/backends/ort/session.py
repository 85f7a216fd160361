"""ONNX Runtime sessions: opening one on the provider that was asked for, and holding its graph to the manifest."""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.backends.cores import physical_cores
from qwen3_runtime.backends.elements import ELEMENTS
from qwen3_runtime.errors import DamagedEngineError, UnsupportedEngineError
from qwen3_runtime.installation import install_command

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_graphs.interface import StepInterface, StepTensor

# Providers that run on a device of their own, and its name.
_DEVICES = {"CUDAExecutionProvider": "cuda"}

_FLOAT32 = "1"  # of MatMulNBits' accuracy levels; 4 rounds to int8

_ON_CPU = "step."  # beginning of the names of nodes that compute lengths and shapes


def import_onnxruntime() -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Import ONNX Runtime with its telemetry off; every import of it in this project goes through here.

    Its releases write an identifier and an event database below HOME and look up a host of their maker's as soon as
    they are imported, unless the environment forbids it. Who wants that sets `ORT_DISABLE_TELEMETRY=0` beforehand.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def open_session(
    model: Path,
    provider: str,
    threads: int | None,
    library: Path | None = None,
    *,
    as_written: bool = False,
    quantized_activations: bool = True,
) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Open a session.

    Args:
        model: the graph.
        provider: ONNX Runtime's name of it; no other is accepted.
        threads: intra-op threads; None for one each physical core.
        library: custom operators to register.
        as_written: keep rounding where the graph has it. ONNX Runtime's higher levels of optimization multiply with
            quantized matrices in another way than the graph says.
        quantized_activations: let ONNX Runtime round the inputs of matrices behind a `DequantizeLinear` to int8. That
            is its own default and faster, and the graph does not say it.

    Raises:
        EngineError: onnxruntime, the provider or its device is missing, the graph cannot be opened, or some of it would
            run on the CPU instead.
    """
    onnxruntime = require_provider(provider)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads if threads is not None else physical_cores()
    options.log_severity_level = 4  # errors arrive as exceptions; logged too, they would come twice
    if provider in _DEVICES:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not quantized_activations:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", _FLOAT32)
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        if library is not None:
            options.register_custom_ops_library(str(library))
        session = onnxruntime.InferenceSession(str(model), options, providers=[provider], enable_fallback=0)
    except Exception as error:
        raise DamagedEngineError(f"{model}: ONNX Runtime cannot open it: {first_error_line(error)}") from error
    if session.get_providers()[0] != provider:  # it falls back without a word
        raise UnsupportedEngineError(
            f"the engine needs {provider}, but the session runs on {session.get_providers()[0]}"
        )
    if provider in _DEVICES:
        _check_assignment(session, provider)
    return session


def require_provider(provider: str) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Return the module `onnxruntime`, which has `provider` and can use it on this machine.

    A provider whose device or libraries are missing is listed all the same, and a session that asks for it opens on
    the CPU without a word. So it is asked for memory on its device.

    Raises:
        EngineError: naming what is missing.
    """
    try:
        onnxruntime = import_onnxruntime()
    except ImportError:
        command = install_command("cuda" if provider in _DEVICES else "cpu")
        raise UnsupportedEngineError(f"onnxruntime is not installed: {command}") from None
    if provider not in onnxruntime.get_available_providers():
        raise UnsupportedEngineError(
            f"the engine needs {provider}, this onnxruntime has {', '.join(onnxruntime.get_available_providers())}; "
            "install the matching onnxruntime distribution or build the engine for another provider"
        )
    if provider in _DEVICES:
        _require_device(onnxruntime, provider)
    return onnxruntime


def _require_device(onnxruntime: Any, provider: str) -> None:  # noqa: ANN401 - onnxruntime has no types
    device = _DEVICES[provider]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        onnxruntime.preload_dlls()  # finds CUDA where pip installed it, and prints what it does not find
    try:
        onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), device, 0)
    except Exception as error:
        failure = re.search(r"CUDA failure [^;]*[^; ]", str(error))
        reason = next(iter(said.getvalue().splitlines()), failure.group() if failure else f"no {device} device")
        raise UnsupportedEngineError(
            f"the engine needs {provider}, which cannot be used here: {reason}; run it on a machine with the GPU"
        ) from error


def _check_assignment(session: Any, provider: str) -> None:  # noqa: ANN401 - onnxruntime has no types
    """Refuse a session that computes anything but the lengths of a step on the CPU.

    ONNX Runtime gives a node for which the provider has no kernel to the CPU where that has one, and says nothing.
    Lengths and shapes of a step it puts there on purpose; those nodes are called `step.`.
    """
    elsewhere = [
        f"{node.name} ({node.op_type})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if not node.name.startswith(_ON_CPU)
    ]
    if elsewhere:
        raise UnsupportedEngineError(
            f"this onnxruntime has no kernel of {provider} for {len(elsewhere)} nodes, such as {elsewhere[0]}, and "
            "would run them on the CPU; install the onnxruntime-gpu that the engine's extra [cuda] names"
        )


def check_interface(session: Any, interface: StepInterface) -> None:  # noqa: ANN401 - onnxruntime has no types
    """Hold the graph's inputs and outputs to what the manifest expects, so that no array is bound at a wrong size.

    Raises:
        DamagedEngineError: naming the first difference.
    """
    for kind, declared, found in (
        ("input", interface.inputs, session.get_inputs()),
        ("output", interface.outputs, session.get_outputs()),
    ):
        expected = {each.name: ELEMENTS[each.element].session_name for each in declared}
        types = {value.name: value.type for value in found}
        if types != expected:
            name = min(set(types.items()) ^ set(expected.items()))[0]
            raise DamagedEngineError(
                f"model.onnx: {kind} {name!r}: the manifest expects {expected.get(name, 'none')}, "
                f"the graph has {types.get(name, 'none')}; build the engine again"
            )
        shapes = {value.name: value.shape for value in found}
        for each in declared:
            _check_shape(each, shapes[each.name])


def _check_shape(declared: StepTensor, shape: list[int | str | None]) -> None:
    if len(shape) != len(declared.shape):
        raise DamagedEngineError(
            f"model.onnx: {declared.name!r} has shape {shape}, the manifest expects {len(declared.shape)} dimensions; "
            "build the engine again"
        )
    for axis, (meant, size) in enumerate(zip(declared.shape, shape, strict=True)):
        if isinstance(meant, int) and meant != size:
            raise DamagedEngineError(
                f"model.onnx: {declared.name!r} has shape {shape}, the manifest expects {meant} "
                f"on axis {axis}; build the engine again"
            )


def no_cache_memory(shape: tuple[int, ...]) -> UnsupportedEngineError:
    """The error of a cache that does not fit into memory."""
    return UnsupportedEngineError(
        f"not enough memory for a cache of shape {shape} per layer; open it with a smaller max_context or max_sequences"
    )


def first_error_line(error: Exception) -> str:
    """What went wrong; an error that passed through several C++ functions begins with their long signatures."""
    return (str(error).rpartition("[ONNXRuntimeError] : ")[2] or type(error).__name__).splitlines()[0]
