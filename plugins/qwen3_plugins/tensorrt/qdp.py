"""Our kernels as quickly deployable plugins (QDP) of full TensorRT: compiled when the engine is built, no Python in it.

Such a plugin starts one kernel, so that an operator is several in a row: `Qwen3Attention` is `attention_append`,
`attention_split` and `attention_attend`, `Qwen3MoE` the six of `kernels.moe`. What one kernel leaves for the next is a
tensor of the network, whose memory TensorRT plans. `importing.as_qdp` writes an operator that way in an ONNX file.

All plugins of a family take the family's shape as attributes. A grid, and what a kernel is told of a step's size, are
expressions over dimensions of its inputs; TensorRT evaluates them in every step. Where a kernel comes with tiles of two
sizes, those are its two tactics, between which TensorRT chooses by measuring.

TensorRT-RTX 1.7 has no plugins of this kind.
"""

# Without `from __future__ import annotations`: TensorRT reads the annotations of what is registered.

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import GenericAlias, ModuleType
from typing import Any

from qwen3_plugins.tensorrt.compile import compile_kernel
from qwen3_plugins.tensorrt.kernels.attention import AttentionKernels, AttentionShape, attention_kernels
from qwen3_plugins.tensorrt.kernels.kernel import Kernel
from qwen3_plugins.tensorrt.kernels.moe import Experts, moe_kernels, moe_workspaces

NAMESPACE = "qwen3"

_capability: dict[str, int] = {}  # of the GPU that engines are built on, by module that knows our plugins

Dims = Mapping[str, Sequence[Any]]
"""Dimensions of a kernel's inputs by name: integers, or TensorRT's expressions."""


@dataclass(frozen=True)
class QdpPlugin:
    """One kernel as a plugin.

    Attributes:
        name: of the plugin and its kernel.
        family: the class whose fields are the attributes.
        kernels: for a shape and a compute capability (times ten), the kernel in each tactic.
        sizes: for a shape and the inputs' dimensions, what `Kernel.grid` and the kernel's scalars want to know.
        outputs: for a shape and the inputs' dimensions, the dimensions of each output, or the input that it is.
    """

    name: str
    family: type[AttentionShape] | type[Experts]
    kernels: Callable[[Any, int], Sequence[Kernel]]
    sizes: Callable[[Any, Dims], dict[str, Any]]
    outputs: Callable[[Any, Dims], dict[str, Sequence[Any] | str]]

    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs; they are the same for every shape."""
        return self.kernels(_EXAMPLES[self.family], 80)[0].of_role("input")

    def results(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.kernels(_EXAMPLES[self.family], 80)[0].of_role("output")


def register_kernels(trtp: ModuleType, capability: int) -> None:
    """Make the plugins known to `tensorrt.plugin`, or, when they are, change the GPU that they are compiled for.

    Args:
        trtp: the module `tensorrt.plugin`, of 11 or later.
        capability: compute capability, times ten, of the GPU that engines are built on.
    """
    known = trtp.__name__ in _capability
    _capability[trtp.__name__] = capability
    if not known:
        for plugin in PLUGINS:
            _register(trtp, plugin)


def _register(trtp: ModuleType, plugin: QdpPlugin) -> None:
    inputs, attributes = plugin.inputs(), {field.name: field.type for field in fields(plugin.family)}
    kinds = {"int": int, "float": float, "str": str, "bool": bool}
    tensors = [(name, trtp.TensorDesc) for name in inputs]
    described = [*tensors, *((name, kinds[str(kind)]) for name, kind in attributes.items())]
    several = GenericAlias(tuple, (trtp.TensorDesc,) * len(plugin.results()))
    plugin_id = f"{NAMESPACE}::{plugin.name}"

    def split(arguments: Sequence[Any], named: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
        """What was given for each input, and the shape that the attributes describe."""
        given = dict(zip(inputs, arguments, strict=False))
        found = named or dict(zip(attributes, arguments[len(inputs) :], strict=True))
        # The ONNX parser leaves a zero at the end of text.
        values: dict[str, Any] = {
            name: value.rstrip("\0") if isinstance(value, str) else value for name, value in found.items()
        }
        return given, plugin.family(**values)

    def describe(*arguments: Any, **named: Any) -> tuple[Any, ...]:  # noqa: ANN401
        given, shape = split(arguments, named)
        kernel = plugin.kernels(shape, _capability[trtp.__name__])[0]
        made = plugin.outputs(shape, {name: one.shape_expr for name, one in given.items()})
        types = {one.name: _data_type(trtp, one.type) for one in kernel.arguments if one.role == "output"}
        return tuple(
            given[what].aliased() if isinstance(what, str) else trtp.from_shape_expr(tuple(what), kind)
            for what, kind in ((made[name], kind) for name, kind in types.items())
        )

    def tune(*arguments: Any) -> list[Any]:  # noqa: ANN401
        _, shape = split(arguments[:-1])
        kernels = plugin.kernels(shape, _capability[trtp.__name__])
        types = [_type_name(argument.type) for argument in kernels[0].arguments if argument.role != "scalar"]
        return [trtp.AutoTuneCombination(", ".join(types), "LINEAR", list(range(1, len(kernels) + 1)))]

    def compiled(*arguments: Any) -> tuple[str, str, Any, Any]:  # noqa: ANN401
        given, shape = split(arguments[:-2])
        tactic, capability = arguments[-1], _capability[trtp.__name__]
        kernel = plugin.kernels(shape, capability)[max(0, tactic - 1)]
        sizes = plugin.sizes(shape, {name: one.shape_expr for name, one in given.items()})
        asked = inspect.signature(kernel.grid).parameters
        made = compile_kernel(kernel, capability)
        launch = trtp.KernelLaunchParams(
            *kernel.grid(**{name: sizes[name] for name in asked}),
            block_x=made.resources.threads,
            shared_mem=made.resources.shared,
        )
        scalars = trtp.SymIntExprs.from_tuple(tuple(trtp.SymInt32(sizes[name]) for name in kernel.of_role("scalar")))
        return made.entry, made.bare_ptx(), launch, scalars

    results = [("outputs", several)]
    _declare(describe, described, several)
    _declare(tune, [*described, *results], GenericAlias(list, (trtp.AutoTuneCombination,)))
    answer = GenericAlias(tuple, (str, str, trtp.KernelLaunchParams, trtp.SymIntExprs))
    _declare(compiled, [*described, *results, ("tactic", int)], answer)
    trtp.register(plugin_id)(describe)
    trtp.autotune(plugin_id)(tune)
    trtp.aot_impl(plugin_id)(compiled)


def _declare(function: Callable[..., Any], parameters: Sequence[tuple[str, Any]], result: Any) -> None:  # noqa: ANN401
    """Give a function the signature that TensorRT looks at."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    declared = [inspect.Parameter(name, kind, annotation=annotation) for name, annotation in parameters]
    function.__signature__ = inspect.Signature(declared, return_annotation=result)  # type: ignore[attr-defined]


_TYPE_NAMES = {"*fp32": "FP32", "*fp16": "FP16", "*bf16": "BF16", "*i32": "INT32", "*u8": "INT8"}


def _type_name(pointer: str) -> str:
    """TensorRT's name of an element type; bytes are int8 there, see `moe.MoEOperator`."""
    return _TYPE_NAMES[pointer]


def _data_type(trtp: ModuleType, pointer: str) -> Any:  # noqa: ANN401 - tensorrt.DataType
    import sys

    kinds = sys.modules[trtp.__name__.rpartition(".")[0]].DataType
    return getattr(kinds, {"FP32": "FLOAT", "FP16": "HALF"}.get(_type_name(pointer), _type_name(pointer)))


def _attention(shape: AttentionShape, capability: int) -> AttentionKernels:
    return attention_kernels(shape, capability)


def _attention_sizes(first: str) -> Callable[[AttentionShape, Dims], dict[str, Any]]:
    def sizes(_shape: AttentionShape, dims: Dims) -> dict[str, Any]:
        batch, width = dims["block_table"]
        return {"tokens": dims[first][0], "batch": batch, "table_width": width}

    return sizes


def _partials(shape: AttentionShape, dims: Dims) -> dict[str, Sequence[Any] | str]:
    partial = _attention(shape, 80).partial_shape(dims["context_len"][0])
    return {"partial": partial, "lse": partial[:-1]}


def _expert_kernels(name: str) -> Callable[[Experts, int], Sequence[Kernel]]:
    def kernels(shape: Experts, _capability: int) -> Sequence[Kernel]:
        found = [kernel for tile in ("decode", "prefill") for kernel in moe_kernels(shape, tile) if kernel.name == name]
        return found if name in ("moe_gate_up", "moe_down") else found[:1]

    return kernels


def _expert(name: str, first: str, outputs: Sequence[str]) -> QdpPlugin:
    """A kernel whose number of tokens is that of the rows of its input `first`."""

    def tokens(shape: Experts, dims: Dims) -> Any:  # noqa: ANN401 - an expression
        rows = dims[first][0]
        return rows // shape.top_k if first in ("hidden", "answers") else rows

    def made(shape: Experts, dims: Dims) -> dict[str, Sequence[Any] | str]:
        buffers = {buffer.name: buffer.shape for buffer in moe_workspaces(shape, tokens(shape, dims))}
        buffers["y"] = (tokens(shape, dims), shape.hidden_size)
        return {output: buffers[output] for output in outputs}

    return QdpPlugin(name, Experts, _expert_kernels(name), lambda shape, dims: {"tokens": tokens(shape, dims)}, made)


_EXAMPLES: dict[type, Any] = {
    AttentionShape: AttentionShape(2, 1, 64, 16, 1e-6, "fp16"),
    Experts: Experts(2, 1, True, 16, 16, "fp16", "fp16"),
}

ATTENTION = (
    QdpPlugin(
        "attention_append",
        AttentionShape,
        lambda shape, capability: (_attention(shape, capability).append,),
        _attention_sizes("q"),
        lambda _shape, dims: {"rotated": tuple(dims["q"]), "kv_out": "kv"},
    ),
    QdpPlugin(
        "attention_split",
        AttentionShape,
        lambda shape, capability: (_attention(shape, capability).split,),
        _attention_sizes("rotated"),
        _partials,
    ),
    QdpPlugin(
        "attention_attend",
        AttentionShape,
        lambda shape, capability: (_attention(shape, capability).attend,),
        _attention_sizes("rotated"),
        lambda _shape, dims: {"out": tuple(dims["rotated"])},
    ),
)
EXPERTS = (
    _expert("moe_logits", "x", ("logits",)),
    _expert("moe_select", "logits", ("choice", "share")),
    _expert("moe_sort", "choice", ("offsets", "order")),
    _expert("moe_gate_up", "x", ("hidden",)),
    _expert("moe_down", "hidden", ("answers",)),
    _expert("moe_combine", "share", ("y",)),
)
PLUGINS = (*ATTENTION, *EXPERTS)
