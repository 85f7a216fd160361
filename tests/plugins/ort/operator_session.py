"""ONNX Runtime sessions of one operator of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnxruntime
from onnx import helper
from paged_attention import library_file

if TYPE_CHECKING:
    import numpy as np

THREADS = 2


def open_session(
    operator: str,
    inputs: dict[str, np.ndarray | None],
    outputs: list[str],
    *,
    constants: tuple[str, ...] = (),
    **attributes: object,
) -> onnxruntime.InferenceSession:
    """A graph of one node; inputs that are None are absent, those named in `constants` are initializers."""
    names = [name if value is not None else "" for name, value in inputs.items()]
    while names and not names[-1]:
        names.pop()
    present = {name: value for name, value in inputs.items() if value is not None}
    graph = helper.make_graph(
        [helper.make_node(operator, names, outputs, domain="qwen3", **attributes)],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
            for name, value in present.items()
            if name not in constants
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(present[name], name) for name in constants],
    )
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("qwen3", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library_file()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_operator(
    operator: str, inputs: dict[str, np.ndarray | None], outputs: list[str], **attributes: object
) -> list[np.ndarray]:
    """Run a node once on plain numpy inputs."""
    feeds = {name: value for name, value in inputs.items() if value is not None}
    return open_session(operator, inputs, outputs, **attributes).run(None, feeds)
