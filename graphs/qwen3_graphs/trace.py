"""Trace the eager model to its semantic ONNX graph, without weights.

Every decoder layer of a kind (dense, or with experts) is the same code, so a model of one layer of each kind is
exported and its layer repeated with values and parameters renamed: 94 layers cost little more than one. Parameters
become initializers with a name, type and shape whose bytes stay in the checkpoint.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import logging
import re
import warnings
from itertools import groupby
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from qwen3_graphs import interface, schemas, semantic_ops
from qwen3_graphs.errors import TraceError
from qwen3_graphs.model import Batch, OutputKind, Qwen3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.interface import StepInput, StepInterface

    Dims = Sequence[int | str]

CHECKPOINT = "checkpoint"
"""Location of the external data of initializers: bytes that the build has yet to stream."""

_SCOPES = "pkg.torch.onnx.name_scopes"  # where torch.onnx records the modules that a node comes from

# The dimensions of a step that vary, with the sizes to trace at: distinct, and none of them 0 or 1, which
# torch.export would take for constants.
_TRACED_SIZES = {"T": 11, "B": 3, "B+1": 4, "M": 6, "R": 5, "blocks": 7, "block": 8}


def trace(architecture: Architecture, *, output: OutputKind = "logits", max_context: int) -> ir.Model:
    """Build the semantic graph that `docs/architecture.md` describes.

    Args:
        architecture: dimensions of the model.
        output: `logits` float32 [R, vocab], or `hidden` float32 [R, hidden] after the final norm.
        max_context: rows of the position tables, in tokens.

    Returns:
        A model whose initializers are external tensors at `CHECKPOINT`, without bytes.
    """
    templates = {
        experts: _Template.of(_one_layer(architecture, experts=experts), output, max_context)
        for experts in dict.fromkeys(architecture.has_experts(index) for index in range(architecture.num_hidden_layers))
    }
    ends = next(iter(templates.values()))  # what is around the layers is the same in all of them
    declared = _interface(architecture, output)
    inputs = {each.name: _input(each) for each in declared.inputs}
    step = [inputs[each.name] for each in _traced_inputs()]
    graph = ir.Graph(
        list(inputs.values()),
        [],
        nodes=[],
        opset_imports={"": schemas.OPSET, schemas.DOMAIN: schemas.VERSION},
        name="qwen3",
    )
    values = dict(zip(ends.step, step, strict=True))
    _append(graph, ends.before, values)
    hidden = values[ends.entering]
    new_caches = []
    for index in range(architecture.num_hidden_layers):
        template = templates[architecture.has_experts(index)]
        cache = inputs[declared.caches[index].name]
        local = {**dict(zip(template.step, step, strict=True)), template.cache: cache, template.entering: hidden}
        _append(graph, template.layer, local, index)
        hidden = local[template.leaving]
        new_cache = local[template.new_cache]
        new_cache.name = declared.written[str(cache.name)].name
        new_caches.append(new_cache)
    values[ends.leaving] = hidden
    _append(graph, ends.after, values)
    result = values[ends.result]
    result.name = output
    graph.outputs.extend([result, *new_caches])
    return ir.Model(graph, ir_version=11, producer_name="qwen3-compile")


@dataclasses.dataclass(frozen=True)
class _Template:
    """The exported graph of a model of one layer, cut at that layer.

    Attributes:
        step: its inputs but for the cache.
        cache: the cache of the layer.
        before: nodes in front of the layer; likewise `layer` and `after`.
        entering: hidden states in front of the layer.
        leaving: hidden states behind it.
        result: logits or hidden states of the model.
        new_cache: the cache with this step's keys and values.
    """

    step: tuple[ir.Value, ...]
    cache: ir.Value
    before: tuple[ir.Node, ...]
    layer: tuple[ir.Node, ...]
    after: tuple[ir.Node, ...]
    entering: ir.Value
    leaving: ir.Value
    result: ir.Value
    new_cache: ir.Value

    @classmethod
    def of(cls, architecture: Architecture, output: OutputKind, max_context: int) -> _Template:
        graph = export_whole(architecture, output, max_context)
        before, layer, after = (tuple(nodes) for _, nodes in groupby(graph, _is_in_layer))
        *step, cache = graph.inputs
        ends = before[-1].outputs[0], layer[-1].outputs[0], *graph.outputs
        return cls(tuple(step), cache, before, layer, after, *ends)


def _one_layer(architecture: Architecture, *, experts: bool) -> Architecture:
    """The model with one layer of a kind."""
    return dataclasses.replace(architecture, num_hidden_layers=1, dense_layers=() if experts else (0,))


def export_whole(architecture: Architecture, output: OutputKind, max_context: int) -> ir.Graph:
    """Export the model layer after layer, in time that grows with their number: `trace` is the quick way.

    The model is made under a mode in which tensors have a shape and no bytes.
    """
    named: list[tuple[int | str, ...]] = []

    def tensor(dtype: torch.dtype, *dims: int | str) -> Tensor:
        named.append(dims)
        return torch.empty([_TRACED_SIZES[dim] if isinstance(dim, str) else dim for dim in dims], dtype=dtype)

    def variation(_: torch.dtype, *dims: int | str) -> dict[int, object]:
        return {axis: torch.export.Dim.DYNAMIC for axis, dim in enumerate(dims) if isinstance(dim, str)}

    with FakeTensorMode(), _quiet():
        program = torch.export.export(
            Qwen3(architecture, max_context, output),
            _arguments(architecture, tensor),
            dynamic_shapes=_arguments(architecture, variation),
            strict=False,
        )
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=schemas.OPSET,
            optimize=False,
            verbose=False,
            custom_translation_table=semantic_ops.translations(),
        )
    if exported is None:
        raise RuntimeError("torch.onnx.export returned no program")
    graph = exported.model.graph
    _describe(graph, named)
    return graph


def _arguments(architecture: Architecture, make: Callable[..., Any]) -> tuple[Any, ...]:
    """Build the arguments of `Qwen3.forward`, in its order, from a function (dtype, *dims) -> leaf."""
    types = {"INT64": torch.int64, "INT32": torch.int32, "FLOAT": torch.float32}
    made = {each.name: make(types[each.element], *each.shape) for each in _traced_inputs()}
    batch = Batch(**{name: made.pop(name) for name in Batch._fields})
    cache = _interface(architecture, "logits").caches[0]
    caches = [make(types[cache.element], *cache.shape) for _ in range(architecture.num_hidden_layers)]
    return made["input_ids"], batch, made["logits_rows"], caches


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings, which are about itself and optional packages, from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(graph: ir.Graph, named: Sequence[Dims]) -> None:
    """Write the varying dimensions by name, and give the values that the exporter left untyped their type."""
    spelling = {
        str(traced): dim
        for value, dims in zip(graph.inputs, named, strict=True)
        for traced, dim in zip(value.shape or (), dims, strict=True)
    }
    produced = [value for node in graph for value in node.outputs]
    for value in [*graph.inputs, *produced]:
        if value.shape is None:  # the Sigmoid inside silu, shaped as its input
            value.shape, value.type = _like(value.producer())
        else:
            value.shape = ir.Shape([dim if isinstance(dim, int) else spelling[str(dim)] for dim in value.shape])


def _like(node: ir.Node | None) -> tuple[ir.Shape | None, ir.TypeProtocol | None]:
    source = node.inputs[0] if node is not None else None
    if node is None or source is None or node.op_type != "Sigmoid":
        raise TraceError(f"the exporter gave no shape to the output of {node}")
    return source.shape, source.type


def _append(graph: ir.Graph, nodes: Iterable[ir.Node], values: dict[ir.Value, ir.Value], index: int = 0) -> None:
    """Copy nodes of the template to the end of the graph.

    Args:
        graph: receives the nodes and the initializers that they are first to use.
        nodes: of the exported one-layer model.
        values: the graph's values by the template's; extended with what the nodes compute.
        index: the layer that the template's only layer becomes.
    """
    taken: dict[str, int] = {}
    for node in nodes:
        given = [value for value in node.inputs if value is not None]  # no operator here has an optional input
        inputs = [values.get(value) or _declare_weight(graph, value, index) for value in given]
        name = ".".join(part for part in (_module(node).removeprefix("model."), node.op_type.lower()) if part)
        taken[name] = count = taken.get(name, -1) + 1
        name = _renumber(f"{name}_{count}" if count else name, index)
        outputs = [
            ir.Value(name=f"{name}.{place}" if place else name, shape=value.shape, type=value.type)
            for place, value in enumerate(node.outputs)
        ]
        values.update(zip(node.outputs, outputs, strict=True))
        attributes = sorted(node.attributes.values(), key=lambda attribute: attribute.name)
        graph.append(ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, name=name))


def _declare_weight(graph: ir.Graph, value: ir.Value, index: int) -> ir.Value:
    """Return the graph's initializer for one of the template's, declaring it at its first use."""
    if value.name is None or value.shape is None:
        raise TraceError(f"expected a parameter with a name and a shape, found {value}")
    name = _renumber(value.name, index)
    if name not in graph.initializers:
        absent = ir.ExternalTensor(CHECKPOINT, 0, 0, ir.DataType.FLOAT, shape=value.shape, name=name)
        graph.register_initializer(ir.Value(name=name, shape=value.shape, type=value.type, const_value=absent))
    return graph.initializers[name]


def _renumber(name: str, index: int) -> str:
    return re.sub(r"\blayers\.0\b", f"layers.{index}", name)


def _module(node: ir.Node) -> str:
    """Return the path of the module that a node comes from; the scopes' last entry is the operation itself."""
    scopes: list[str] = ast.literal_eval(node.metadata_props[_SCOPES])
    return scopes[-2]


def _is_in_layer(node: ir.Node) -> bool:
    return _module(node).startswith("model.layers.")


def _traced_inputs() -> list[StepInput]:
    """The inputs that `Qwen3.forward` takes, in its order; those of features that it does not have are left out."""
    taken = ("input_ids", *Batch._fields, "logits_rows")
    return sorted((each for each in interface.PACKED if each.name in taken), key=lambda each: taken.index(each.name))


def _interface(architecture: Architecture, output: OutputKind) -> StepInterface:
    width = architecture.vocab_size if output == "logits" else architecture.hidden_size
    heads, head_dim = architecture.num_key_value_heads, architecture.head_dim
    return interface.packed(
        interface.StepModel(architecture.num_hidden_layers, heads, head_dim, "FLOAT", output, width)
    )


def _input(declared: StepInput) -> ir.Value:
    dtype = ir.TensorType(ir.DataType[declared.element])
    return ir.Value(name=declared.name, shape=ir.Shape(declared.shape), type=dtype)
