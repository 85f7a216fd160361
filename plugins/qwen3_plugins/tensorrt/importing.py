"""An ONNX file with our plugins' nodes, as TensorRT has to be given it.

    trt = load_tensorrt("tensorrt-rtx")
    parser.parse(with_plugins(trt, content, capabilities=(89, 120)), path)      # path: where external weights lie
    plugin_v3.allow_in_place(trt, config)

TensorRT-RTX gets the plugins of `plugin_v3`; TensorRT those of `qdp`, which leave no Python in the plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_plugins.tensorrt.attention import AttentionOperator
from qwen3_plugins.tensorrt.errors import PluginError
from qwen3_plugins.tensorrt.moe import MoEOperator
from qwen3_plugins.tensorrt.operator import DOMAIN, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    import onnx

    from qwen3_plugins.tensorrt.operator import Operator
    from qwen3_plugins.tensorrt.qdp import QdpPlugin


def with_plugins(trt: ModuleType, content: bytes, capabilities: Sequence[int]) -> bytes:
    """Make our plugins known to `trt`, as its parser can use them, and return the file to parse.

    Args:
        trt: the module, from `load_tensorrt`.
        content: an ONNX file with our plugins' nodes.
        capabilities: compute capabilities, times ten, to compile kernels for; TensorRT itself builds for one GPU.

    Raises:
        PluginError: the content is no ONNX file or lacks what the plugins are told of a node, or TensorRT has other
            plugins of our names.
    """
    if trt.__name__ == "tensorrt":
        from importlib import import_module

        from qwen3_plugins.tensorrt import qdp

        qdp.register_kernels(import_module("tensorrt.plugin"), capabilities[0])
        return as_qdp(content)
    from qwen3_plugins.tensorrt import plugin_v3

    plugin_v3.register_operators(trt, capabilities)
    return without_functions(content)


def without_functions(content: bytes) -> bytes:
    """Return an ONNX file without the model-local functions of our plugins' nodes.

    They say what the nodes compute, for ONNX Runtime on CPU. TensorRT's parser would import them instead of the
    plugins. Functions of other domains (`trt`) stay: the parser knows those nodes by name.

    Raises:
        PluginError: the content is no ONNX file.
    """
    return _serialize_without_functions(_read(content))


def as_qdp(content: bytes) -> bytes:
    """Return an ONNX file whose operators are written as plugins that start one kernel each; see `qdp`.

    Raises:
        PluginError: the content is no ONNX file, or does not say the type of a cache or the shape of experts.
    """
    from qwen3_plugins.tensorrt import qdp

    model = _read(content)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type == AttentionOperator.NAME:
            nodes.extend(_chain(node, AttentionOperator, qdp.ATTENTION, _attention_attributes(node, types)))
        elif node.domain == DOMAIN and node.op_type == MoEOperator.NAME:
            nodes.extend(_chain(node, MoEOperator, qdp.EXPERTS, _expert_attributes(node, stored)))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return _serialize_without_functions(model)


def _read(content: bytes) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs

    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise PluginError(f"not an ONNX file ({error})") from error
    return model


def _serialize_without_functions(model: onnx.ModelProto) -> bytes:
    kept = [function for function in model.functions if function.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _chain(
    node: onnx.NodeProto,
    operator: type[Operator],
    plugins: tuple[QdpPlugin, ...],
    attributes: Mapping[str, int | float | str],
) -> Iterator[onnx.NodeProto]:
    """The plugins that compute a node, each reading what those before it made.

    Args:
        node: to be replaced.
        operator: what it is; kernels call its tensors as it does.
        plugins: in their order.
        attributes: of each plugin.
    """
    from onnx import helper

    known = dict(zip(operator.INPUTS, node.input, strict=True))
    made = dict(zip(operator.OUTPUTS, node.output, strict=True))
    for plugin in plugins:
        # What is not the operator's own lies between two plugins.
        inputs = [known.get(name, f"{node.name}.{name}") for name in plugin.inputs()]
        outputs = [made.get(name, f"{node.name}.{name}") for name in plugin.results()]
        made_node = helper.make_node(plugin.name, inputs, outputs, name=f"{node.name}.{plugin.name}", domain=DOMAIN)
        every = {"plugin_namespace": DOMAIN, "plugin_version": VERSION, "aot": 1, **attributes}
        made_node.attribute.extend(helper.make_attribute(name, value) for name, value in every.items())
        yield made_node
        # Whoever reads a cache that was written reads the output: that is what orders the two.
        known |= {source: made[name] for name, source in operator.ALIASES.items() if name in plugin.results()}


def _attention_attributes(node: onnx.NodeProto, types: Mapping[str, int]) -> dict[str, int | float | str]:
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {
        "heads": given["num_heads"],
        "kv_heads": given["kv_num_heads"],
        "head_dim": given["head_dim"],
        "block_size": given["block_size"],
        "epsilon": given["epsilon"],
        "type": _type(node.name, types.get(node.input[7])),
    }


def _expert_attributes(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> dict[str, int | float | str]:
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    router, down = stored.get(node.input[1]), stored.get(node.input[4])
    if router is None or down is None:
        raise PluginError(f"{node.name}: router and experts are initializers, found other inputs")
    fmt = given["weight_format"].decode()
    return {
        "experts": router.dims[0],
        "top_k": given["top_k"],
        "normalize": given["normalize"],
        "hidden_size": router.dims[1],
        "inner_size": down.dims[2] * (2 if fmt == "int4" else 1),
        "dtype": _type(node.name, router.data_type),
        "weight_format": fmt,
        "group_size": given["group_size"],
    }


def _type(name: str, kind: int | None) -> str:
    from onnx import TensorProto

    names: dict[int | None, str] = {int(TensorProto.FLOAT16): "fp16", int(TensorProto.BFLOAT16): "bf16"}
    found = names.get(kind)
    if found is None:
        raise PluginError(f"{name}: its tensors are float16 or bfloat16, found type {kind}")
    return found
