"""Executes operators by the launches that a plugin makes on the GPU, over a CUDA driver that interprets kernels.

The driver sees what a real one would: a function, a grid, and numbers; among them addresses, which must lie in memory
that the operator was given, at a place that a kernel can read its type from.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import sys
from dataclasses import asdict, fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

os.environ["TRITON_INTERPRET"] = "1"

import onnx
import torch
from attention_steps import eager, make_step
from interpreted import _interpret
from moe_steps import TYPES
from moe_steps import make_step as make_moe_step
from onnx import helper

from qwen3_plugins.tensorrt import importing, kernel_launch, qdp
from qwen3_plugins.tensorrt.attention import AttentionOperator
from qwen3_plugins.tensorrt.binary import Binary
from qwen3_plugins.tensorrt.kernels.attention import AttentionShape
from qwen3_plugins.tensorrt.kernels.moe import Experts
from qwen3_plugins.tensorrt.moe import MoEOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel
    from qwen3_plugins.tensorrt.operator import Operator

STREAM, CONTEXT = 7, 11
ELEMENTS = {**TYPES, "*u8": torch.uint8}
ELEMENT_TYPES = {
    torch.float16: onnx.TensorProto.FLOAT16,
    torch.bfloat16: onnx.TensorProto.BFLOAT16,
    torch.float32: onnx.TensorProto.FLOAT,
    torch.int32: onnx.TensorProto.INT32,
    torch.uint8: onnx.TensorProto.INT8,
}


class Driver:
    """What `kernel_launch` needs of `cuda.bindings.driver`."""

    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="most shared memory")

    limits: dict[str, tuple[str, int]] = {}  # noqa: RUF012 - of functions, which outlive an operator

    def __init__(self, kernels: dict[str, Kernel], memory: list[torch.Tensor]) -> None:
        self.kernels, self.memory = kernels, memory

    def cuCtxGetCurrent(self) -> tuple[int, int]:  # noqa: N802
        return 0, CONTEXT

    def cuModuleLoadData(self, code: bytes) -> tuple[int, str]:  # noqa: N802
        return 0, code.decode()

    def cuModuleGetFunction(self, module: str, entry: bytes) -> tuple[int, str]:  # noqa: N802
        assert self.kernels[module].function == entry.decode()
        return 0, module

    def cuFuncSetAttribute(self, function: str, attribute: str, value: int) -> tuple[int]:  # noqa: N802
        self.limits[function] = (attribute, value)
        return (0,)

    def cuLaunchKernel(self, function: str, *given: Any) -> tuple[int]:  # noqa: N802
        grid, block, (shared, stream, (values, kinds), extra) = given[:3], given[3:6], given[6:]
        kernel = self.kernels[function]
        assert block == (32 * kernel.warps, 1, 1)
        assert (stream, extra) == (STREAM, 0)
        assert shared <= 48 * 1024 or self.limits[function][1] == shared
        assert values[-2:] == (0, 0)
        assert len(values) == len(kinds) == len(kernel.arguments) + 2
        arguments = []
        for argument, value, kind in zip(kernel.arguments, values, kinds, strict=False):
            assert kind is (ctypes.c_int32 if argument.role == "scalar" else ctypes.c_void_p), argument.name
            arguments.append(value if argument.role == "scalar" else self._memory_at(value, argument.type))
        kernel.device_function()[grid](*arguments, **kernel.constants)
        return (0,)

    def _memory_at(self, address: int, kind: str) -> torch.Tensor:
        for block in self.memory:
            offset = address - block.data_ptr()
            if 0 <= offset < block.numel() * block.element_size():
                assert address % 16 == 0
                raw = block.view(-1).view(torch.uint8)[offset:]
                return raw[: len(raw) // 4 * 4].view(ELEMENTS[kind])
        raise AssertionError(f"{address:#x} lies in no memory of the operator")


def execute(operator: Operator, activations: str, tensors: dict[str, torch.Tensor]) -> None:
    """Do what the plugin's `enqueue` does, into the outputs among `tensors`."""
    shapes = [tuple(tensors[name].shape) for name in operator.INPUTS]
    kernels = dict(operator.kernels(activations, shapes, 89))
    size = operator.workspace(activations, shapes)
    workspace = torch.full((size + 256,), 0xFF, dtype=torch.uint8)  # not-a-number wherever it is read unwritten
    workspace = workspace[-workspace.data_ptr() % 256 :][:size]
    driver = Driver(kernels, [*tensors.values(), workspace])
    kernel_launch._driver = lambda: driver
    code = {
        name: Binary(name, 89, kernel.function, 32 * kernel.warps, 50_000, name.encode())
        for name, kernel in kernels.items()
    }
    pointers = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    for one in operator.launches(activations, shapes, 89):
        kernel_launch.launch_kernel(one, code[one.name], pointers, workspace.data_ptr(), STREAM)


def execute_qdp(node: onnx.NodeProto, tensors: dict[str, torch.Tensor]) -> None:
    """Execute the plugins that `importing.as_qdp` writes for a node, into `tensors`."""
    kinds = {name: (ELEMENT_TYPES[tensor.dtype], list(tensor.shape)) for name, tensor in tensors.items()}
    values = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    stored = [onnx.TensorProto(name=name, data_type=kind, dims=dims) for name, (kind, dims) in kinds.items()]
    model = helper.make_model(helper.make_graph([node], "one", values, [], stored))
    qdp_model = onnx.ModelProto.FromString(importing.as_qdp(model.SerializeToString()))
    plugins = {plugin.name: plugin for plugin in qdp.PLUGINS}
    for one in qdp_model.graph.node:
        plugin = plugins[one.op_type]
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in one.attribute}
        wanted = {field.name: given[field.name] for field in fields(plugin.family)}
        shape = plugin.family(**{name: text(value) for name, value in wanted.items()})
        (kernel, *_) = plugin.kernels(shape, 89)
        named = dict(zip(plugin.inputs(), (tensors[name] for name in one.input), strict=True))
        dims = {name: tuple(tensor.shape) for name, tensor in named.items()}
        for name, place, made in zip(plugin.results(), one.output, plugin.outputs(shape, dims).values(), strict=True):
            element = next(argument.type for argument in kernel.arguments if argument.name == name)
            fresh = named[made] if isinstance(made, str) else filled(made, ELEMENTS[element])
            named[name] = tensors.setdefault(place, fresh)
        sizes = plugin.sizes(shape, dims)
        grid = kernel.grid(**{name: sizes[name] for name in inspect.signature(kernel.grid).parameters})
        arguments = [named.get(argument.name, sizes.get(argument.name)) for argument in kernel.arguments]
        kernel.device_function()[grid](*arguments, **kernel.constants)


def text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def filled(shape: Sequence[int], kind: torch.dtype) -> torch.Tensor:
    return torch.full(tuple(shape), torch.nan if kind.is_floating_point else -1, dtype=kind)


def attention(kind: str, new: list[int], context: list[int], *, as_qdp: bool = False) -> dict[str, float]:
    shape = AttentionShape(4, 2, 64, 16, 1e-6, kind)
    step = make_step(shape, new, context)
    tensors = {name: value.contiguous() for name, value in step.inputs.items()}
    tensors["kv"] = tensors["kv"].clone()
    tensors |= {"out": torch.full_like(tensors["q"], torch.nan), "kv_out": tensors["kv"]}
    operator = AttentionOperator(4, 2, 64, 16, 1e-6)
    if as_qdp:
        execute_qdp(_node(operator), tensors)
    else:
        execute(operator, kind, tensors)
    out, kv = eager(step)
    written = ~kv.isnan()
    return {
        "out": (tensors["out"].double() - out).abs().max().item(),
        "kv": (tensors["kv"].double() - kv)[written].abs().max().item(),
    }


def experts(tokens: int, *, as_qdp: bool = False, **shape: Any) -> dict[str, float]:
    moe = Experts(**shape)
    step = make_moe_step(moe, tokens)
    scales = [
        one.scales if one.scales.numel() else torch.ones(1, dtype=step.x.dtype) for one in (step.gate_up, step.down)
    ]
    tensors = {
        "x": step.x,
        "router": step.router,
        "gate_up": step.gate_up.codes,
        "gate_up_scales": scales[0],
        "down": step.down.codes,
        "down_scales": scales[1],
        "y": torch.full_like(step.x, torch.nan),
    }
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    operator = MoEOperator(moe.top_k, int(moe.normalize), moe.weight_format, moe.group_size)
    if as_qdp:
        execute_qdp(_node(operator), tensors)
    else:
        execute(operator, moe.dtype, tensors)
    wanted = step.expected()
    return {"y": (tensors["y"].double() - wanted).abs().max().item(), "scale": wanted.abs().max().item()}


def _node(operator: Operator) -> onnx.NodeProto:
    """The operator's node, its tensors called as the operator calls them."""
    return helper.make_node(
        operator.NAME, operator.INPUTS, operator.OUTPUTS, name="one", domain="qwen3", **asdict(operator)
    )


if __name__ == "__main__":
    _interpret()
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"attention": attention, "experts": experts}[request.pop("run")](**request)), flush=True)
