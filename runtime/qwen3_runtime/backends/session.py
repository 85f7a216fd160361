"""ONNX Runtime sessions: opening one on the provider that was asked for, and holding its graph to the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_runtime.backends.cores import physical_cores
from qwen3_runtime.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Cache types: ONNX element type, its name in a session's inputs, a numpy type as wide (numpy has no bfloat16).
CACHE_TYPES: dict[str, tuple[int, str, Any]] = {
    "float32": (1, "tensor(float)", np.float32),
    "float16": (10, "tensor(float16)", np.float16),
    "bfloat16": (16, "tensor(bfloat16)", np.uint16),
    "int8": (3, "tensor(int8)", np.int8),
}


def open_session(
    model: Path,
    provider: str,
    threads: int | None,
    library: Path | None = None,
    *,
    as_written: bool = False,
) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Open a session.

    Args:
        model: the graph.
        provider: ONNX Runtime's name of it; no other is accepted.
        threads: intra-op threads; None for one each physical core.
        library: custom operators to register.
        as_written: leave Q/DQ nodes alone, whose fusion changes what some of them mean.

    Raises:
        EngineError: onnxruntime or the provider is missing, or the graph cannot be opened.
    """
    try:
        import onnxruntime
    except ImportError:
        raise EngineError("onnxruntime is not installed: pip install 'qwen3-compile[cpu]' (or [cuda])") from None
    if provider not in onnxruntime.get_available_providers():
        raise EngineError(
            f"the engine needs {provider}, this onnxruntime has {', '.join(onnxruntime.get_available_providers())}; "
            "install the matching onnxruntime distribution or build the engine for another provider"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads if threads is not None else physical_cores()
    options.log_severity_level = 4  # errors arrive as exceptions; logged too, they would come twice
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        if library is not None:
            options.register_custom_ops_library(str(library))
        session = onnxruntime.InferenceSession(str(model), options, providers=[provider])
    except Exception as error:
        raise EngineError(f"{model}: ONNX Runtime cannot open it: {first_line(error)}") from error
    if session.get_providers()[0] != provider:  # it falls back without a word
        raise EngineError(f"the engine needs {provider}, but the session runs on {session.get_providers()[0]}")
    return session


def check_signature(
    session: Any,  # noqa: ANN401 - onnxruntime has no types
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    widths: Mapping[str, Mapping[int, int]],
) -> None:
    """Hold the graph's inputs and outputs to the manifest, so that no array is bound at a wrong size.

    Args:
        session: the session.
        inputs: ONNX Runtime's name of the type of every input.
        outputs: likewise.
        widths: of an input or output, the size that an axis must have.

    Raises:
        EngineError: naming the first difference.
    """
    for kind, expected, found in (
        ("input", inputs, session.get_inputs()),
        ("output", outputs, session.get_outputs()),
    ):
        types = {value.name: value.type for value in found}
        if types != expected:
            name = min(set(types.items()) ^ set(expected.items()))[0]
            raise EngineError(
                f"model.onnx: {kind} {name!r}: the manifest means {expected.get(name, 'none')}, "
                f"the graph has {types.get(name, 'none')}; build the engine again"
            )
    for value in (*session.get_inputs(), *session.get_outputs()):
        for axis, size in widths.get(value.name, {}).items():
            if value.shape[axis] != size:
                raise EngineError(
                    f"model.onnx: {value.name!r} has shape {value.shape}, the manifest means {size} "
                    f"on axis {axis}; build the engine again"
                )


def no_cache_memory(shape: tuple[int, ...]) -> EngineError:
    """The error of a cache that does not fit into memory."""
    return EngineError(
        f"no memory for a cache of shape {shape} a layer; open it with a smaller max_context or max_sequences"
    )


def first_line(error: Exception) -> str:
    """What went wrong; an error that passed through several C++ functions begins with their long signatures."""
    return (str(error).rpartition("[ONNXRuntimeError] : ")[2] or type(error).__name__).splitlines()[0]
