"""A build of a file with our plugins by TensorRT-RTX, in a process of its own, with every callback written down.

A process of its own, for whatever imports the module first decides whether plugins can be parsed; and a builder that
meets an error may end it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from qwen3_plugins.tensorrt import binary, importing, kernel_launch, plugin_v3
from qwen3_plugins.tensorrt.bindings import modules

CALLS = (
    "get_output_data_types",
    "supports_format_combination",
    "configure_plugin",
    "get_workspace_size",
    "get_aliased_input",
    "get_fields_to_serialize",
)


def main() -> None:
    request = json.loads(sys.stdin.read())
    trt = modules.load_tensorrt("tensorrt-rtx")
    calls: list[Any] = []
    stored: dict[str, Any] = {}  # by operator, a plugin and the fields that it gave for the plan
    _record(calls, stored)
    plugin_v3.register_operators(trt, request["capabilities"])

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, text: str) -> None:
            self.lines.append((severity.name, text))

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    content = Path(request["model"]).read_bytes()
    if request.get("strip", True):
        content = importing.without_functions(content)
    answer: dict[str, Any] = {"parsed": parser.parse(content), "calls": calls}
    answer["layers"] = [network.get_layer(index).type.name for index in range(network.num_layers)]
    if answer["parsed"] and request["profiles"]:
        config = builder.create_builder_config()
        for sizes in request["profiles"]:
            config.add_optimization_profile(_profile(builder, network, sizes))
        plugin_v3.allow_in_place(trt, config)
        config.num_compute_capabilities = len(request["capabilities"])
        for index, capability in enumerate(request["capabilities"]):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), index)
        plan = builder.build_serialized_network(network, config)
        answer["plan"] = None if plan is None else plan.nbytes
        answer["sha256"] = None if plan is None else hashlib.sha256(bytes(plan)).hexdigest()
        answer["opened"] = [_opened(trt, *one) for one in stored.items()]
    answer["refused"] = plugin_v3.take_refusals()
    answer["engine"] = next((text.splitlines()[1:] for _, text in logger.lines if "Engine Layer Infor" in text), [])
    answer["warnings"] = [text for severity, text in logger.lines if severity == "WARNING"]
    print(json.dumps(answer), flush=True)


def _profile(builder: Any, network: Any, sizes: dict[str, list[int]]) -> Any:
    made = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        bounds = [
            [size] * 3 if size >= 0 else sizes[tensor.get_dimension_name(axis)]
            for axis, size in enumerate(tensor.shape)
        ]
        made.set_shape(tensor.name, *zip(*bounds, strict=True))
    return made


def _opened(trt: Any, name: str, built: tuple[Any, Any]) -> Any:
    """Make a plugin of stored fields, as a runtime does, and execute it as far as the launches that it asks for."""
    plugin, fields = built
    creator = trt.get_plugin_registry().get_creator(name, "1", plugin_v3.NAMESPACE)
    again = creator.create_plugin(name, fields, trt.TensorRTPhase.RUNTIME)
    launched: list[Any] = []

    def run(one: Any, code: Any, places: dict[str, int], workspace: int, stream: int) -> None:
        launched.append([one.name, code.name, places, workspace, stream])

    kernel_launch.launch_kernel, kernel_launch.capability = run, lambda: plugin.binaries[0].capability
    types = {kind: data_type for data_type, kind in plugin_v3._type_names(trt).items()}
    kinds = [types[kind] for kind in plugin.operator.types(plugin.activations)]
    described = [SimpleNamespace(type=kind, dims=shape) for kind, shape in zip(kinds, plugin.shapes, strict=False)]
    pointers = list(range(len(described) + len(again.operator.OUTPUTS)))
    again.enqueue(described, [], pointers[: len(described)], pointers[len(described) :], 4096, 7)
    return {
        "operator": name,
        "same": again.operator == plugin.operator and again.binaries == plugin.binaries,
        "launched": launched,
    }


def _record(calls: list[Any], stored: dict[str, Any]) -> None:
    """Write down what TensorRT asks and what it is told."""
    make = plugin_v3._plugin_class

    def recording(module: Any, operator: Any) -> type:
        made = make(module, operator)
        for name in CALLS:
            setattr(made, name, _recorded(name, getattr(made, name), operator.NAME, calls, stored))
        return made

    plugin_v3._plugin_class = recording


def _recorded(name: str, method: Any, operator: str, calls: list[Any], stored: dict[str, Any]) -> Any:
    def call(self: Any, *given: Any) -> Any:
        answer = method(self, *given)
        if name == "get_output_data_types":
            calls.append([operator, name, [kind.name for kind in given[0]], [kind.name for kind in answer]])
        elif name == "supports_format_combination":
            described = given[1][given[0]].desc
            calls.append([operator, name, given[0], [described.type.name, described.format.name], answer])
        elif name == "configure_plugin":
            calls.append([operator, name, [[list(one.min), list(one.max)] for one in given[0]]])
        elif name == "get_fields_to_serialize":
            fields = {field.name: bytes(field.data) for field in self._stored}
            kernels = [
                [one.name, one.capability, one.entry, one.threads, one.shared, len(one.cubin)]
                for one in binary.deserialize_binaries(fields.pop(plugin_v3.KERNELS))
            ]
            calls.append([operator, name, sorted(fields), kernels])
            stored[operator] = self, answer
        else:
            calls.append([operator, name, answer])
        return answer

    return call


if __name__ == "__main__":
    main()
